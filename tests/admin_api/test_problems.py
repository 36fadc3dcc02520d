"""Problem documents."""

from __future__ import annotations

import json

import pytest

from admin_api.problems import (
    Problem,
    ProblemDetails,
    Wrong,
    conflict,
    declared,
    forbidden,
    not_found,
    pointer,
    stale,
    told,
    too_many,
    unauthenticated,
    unavailable,
    unprocessable,
    wrong_field,
    wrong_parameter,
)

ALL = [
    unauthenticated("x"), forbidden("x"), not_found(), conflict("x"), stale(), unprocessable("x"),
    wrong_field("a", "b"), wrong_parameter("a", "b"), too_many("x", 3), unavailable(), Problem(418, "Teapot"),
]  # fmt: skip


@pytest.mark.parametrize("problem", ALL, ids=str)
def test_a_problem_is_what_the_standard_and_the_schema_say(problem: Problem) -> None:
    reply = problem.reply("urn:uuid:1")
    document = json.loads(bytes(reply.body))
    assert reply.media_type == "application/problem+json" and reply.status_code == document["status"]
    assert document["type"].startswith("urn:farebox:problem:") and document["instance"] == "urn:uuid:1"
    assert ProblemDetails.model_validate(document).title == problem.title


def test_a_place_in_the_body_is_a_json_pointer() -> None:
    assert pointer(()) == "#"
    assert pointer(("prices", 0, "a/b~c")) == "#/prices/0/a~1b~0c"


def test_a_wrong_field_is_named_by_its_place() -> None:
    document = wrong_field("tier", "there is no tier gold").document("i")
    assert document["errors"] == [{"pointer": "#/tier", "detail": "there is no tier gold"}]
    assert document["detail"] == "tier: there is no tier gold"
    assert wrong_parameter("limit", "is too large").document("i")["errors"][0]["parameter"] == "limit"


def test_a_problem_may_say_more() -> None:
    document = conflict("Only 0.10 USD is available.", code="not-enough", available="0.1000").document("i")
    assert (document["type"], document["available"]) == ("urn:farebox:problem:not-enough", "0.1000")


def test_whoever_has_to_wait_is_told_how_long() -> None:
    for problem in (too_many("x", 7), conflict("x", retry_after_s=7)):
        assert problem.headers["retry-after"] == "7"
    assert "retry-after" in unavailable().headers and "www-authenticate" in unauthenticated("x").headers


def test_the_errors_told_are_bounded() -> None:
    many = unprocessable("x", *(Wrong("y", pointer=f"#/{at}") for at in range(1000)))
    assert len(many.document("i")["errors"]) == 100


def test_what_a_route_declares_refers_to_the_one_schema() -> None:
    assert declared(409)[409]["content"]["application/problem+json"]["schema"] == {
        "$ref": "#/components/schemas/Problem"
    }


def test_what_the_rooms_below_find_wrong_is_told_as_it_is() -> None:
    with pytest.raises(Problem) as raised, told():
        raise ValueError("a budget needs an amount")
    assert (raised.value.status, raised.value.detail) == (422, "a budget needs an amount")
