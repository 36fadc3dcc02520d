"""Errors as problems."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from accounts import store as accounts
from admin_api.passwords import PasswordsBusy
from admin_api.problems import Problem, not_found
from admin_api.refused import problem_of
from admin_api.wire import Body, Name, Usd
from config import catalog_write
from ledger.store import BankUnavailable

REQUEST = UUID(int=1)


class Part(Body):
    name: Name


class Order(Body):
    amount: Usd
    parts: list[Part] = []  # noqa: RUF012 - pydantic copies it


def validation(model: type[BaseModel], value: object, *where: str) -> RequestValidationError:
    """What the framework raises for this value in this place."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return RequestValidationError([{**each, "loc": (*where, *each["loc"])} for each in caught.value.errors()])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Problem(418, "x"), 418),
        (HTTPException(404), 404),
        (HTTPException(405, headers={"allow": "GET"}), 405),
        (HTTPException(400, "x"), 400),
        (accounts.StaleWrite(), 409),
        (catalog_write.StaleWrite(3), 409),
        (accounts.Conflict("why"), 409),
        (PasswordsBusy(), 503),
        (BankUnavailable("x"), 503),
        (KeyError("x"), 500),
    ],
    ids=repr,
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert problem_of(error, REQUEST).status == status


def test_a_method_that_is_not_there_is_told_which_are() -> None:
    assert problem_of(HTTPException(405, headers={"allow": "GET"}), REQUEST).headers["allow"] == "GET"


def test_a_store_may_say_why() -> None:
    assert problem_of(accounts.Conflict("the group is retired"), REQUEST).detail == "the group is retired"


def test_every_wrong_field_is_named() -> None:
    error = validation(Order, {"amount": 1, "parts": [{"name": "a"}, {"nme": "b"}], "more": 1}, "body")
    problem = problem_of(error, REQUEST)
    assert problem.status == 422
    assert {wrong.pointer: wrong.detail for wrong in problem.errors} == {
        "#/amount": 'must be an amount in USD written as text, like "12.50", with at most 9 decimals',
        "#/parts/1/name": "is missing",
        "#/parts/1/nme": "is not a field of this request",
        "#/more": "is not a field of this request",
    }
    assert "parts.1.name: is missing" in problem.detail


def test_a_wrong_parameter_is_named_and_a_wrong_path_is_not_there() -> None:
    (wrong,) = problem_of(validation(Part, {}, "query"), REQUEST).errors
    assert (wrong.parameter, wrong.pointer) == ("name", "")
    assert problem_of(validation(Part, {}, "path"), REQUEST).document("i") == not_found().document("i")


def test_a_body_that_is_no_json_is_malformed() -> None:
    error = RequestValidationError([{"type": "json_invalid", "loc": ("body", 3), "msg": "x", "ctx": {"error": "y"}}])
    assert problem_of(error, REQUEST).status == 400


def test_a_defect_is_logged_under_the_requests_id_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "farebox.admin"):
        problem = problem_of(KeyError("hunter2"), REQUEST)
    assert "hunter2" not in str(problem.document("i"))
    (record,) = caplog.records
    assert record.exc_info is not None and getattr(record, "request_id") == str(REQUEST)  # noqa: B009 - not declared
