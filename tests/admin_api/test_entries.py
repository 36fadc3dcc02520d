"""What all entries have in common; each noun's own tests show it at work over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from admin_api.entries import EntryReply, life, problems
from admin_api.problems import Problem
from config.catalog_shelf import Entry
from config.catalog_write import InUse, NameTaken, NoEntry, Retired, StaleWrite
from config.complaints import Complaint, ComplaintsError
from policies.tier import Tier
from tests.house import Farebox

NOW = datetime(2026, 11, 21, tzinfo=UTC)

_TOLD: list[tuple[Exception, int, str]] = [
    (NoEntry("x"), 404, ""),
    (NameTaken("tier", "x", retired=False), 409, "There is a tier x already."),
    (NameTaken("tier", "x", retired=True), 409, "There is a tier x already, which is retired: restore it"),
    (Retired("tier", "x"), 409, "The tier x is retired: restore it first."),
    (InUse(["model m", "model n"]), 409, "It is used by model m, model n."),
    (ComplaintsError([Complaint("upstream", "there is no upstream u")]), 422, "upstream: there is no upstream u"),
]


@pytest.mark.parametrize(("error", "status", "said"), _TOLD)
def test_a_refusal_of_the_catalogue_is_a_problem(error: Exception, status: int, said: str) -> None:
    with pytest.raises(Problem) as caught, problems():
        raise error
    assert caught.value.status == status and said in caught.value.detail


def test_where_there_is_no_body_nothing_of_it_is_wrong() -> None:
    with pytest.raises(Problem) as caught, problems(bodiless=True):
        raise ComplaintsError([Complaint("upstream", "there is no upstream u")])
    assert (caught.value.status, caught.value.errors) == (409, ())


def test_what_others_tell_goes_through() -> None:
    with pytest.raises(StaleWrite), problems():
        raise StaleWrite(5)


def test_many_uses_are_shortened_in_the_sentence_and_not_in_the_list() -> None:
    uses = [f"model {n}" for n in range(30)]
    with pytest.raises(Problem) as caught, problems():
        raise InUse(uses)
    assert "and 10 more" in caught.value.detail and caught.value.more["used_by"] == uses


def test_an_entrys_life_has_a_field_for_each_of_its_reply() -> None:
    assert set(life(Entry(Tier("t"), 1, NOW, NOW))) == set(EntryReply.model_fields)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/tiers/a", {"GET", "PATCH", "DELETE"}),
        ("/v1/tiers/a/b", {"GET", "PATCH", "DELETE"}),
        ("/v1/tiers/a/restore", {"POST"}),
        ("/v1/tiers/a/b/restore", {"POST"}),
        ("/v1/models/a/b/prices", {"GET", "POST"}),
        ("/v1/models/a/prices/5", {"GET"}),
        ("/v1/models/prices/5", {"GET", "PATCH", "DELETE"}),
        ("/v1/models/a/prices/5/6", set()),
        ("/v1/models/a/prices/5/prices/6", set()),
    ],
)
async def test_a_path_below_an_entry_has_its_own_methods(module_farebox: Farebox, path: str, methods: set[str]) -> None:
    answer = await module_farebox.admin.ask("OPTIONS", path.removeprefix("/v1"))
    assert answer.status == (405 if methods else 404)
    assert set(answer.headers.get("allow", "").split(", ")) - {""} == methods
