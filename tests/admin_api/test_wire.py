"""How values travel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from admin_api.wire import (
    Body,
    Email,
    Instant,
    Name,
    Page,
    Reply,
    Usd,
    UsdAbove0,
    UsdFrom0,
    UsdOut,
    is_money,
    rfc3339,
)
from ledger.money import NANO

AMOUNT: TypeAdapter[int] = TypeAdapter(Usd)
INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class Paid(Body):
    """A body with money."""

    amount: Usd
    least: UsdFrom0 | None = None


class Account(Reply):
    """A reply with money."""

    balance: UsdOut
    limits: list[UsdOut] = Field(default_factory=list)
    name: str = ""


@given(st.integers(-9_000_000 * NANO, 9_000_000 * NANO))
def test_every_amount_comes_back_as_it_went(nano: int) -> None:
    written = Account(balance=nano).model_dump(mode="json")["balance"]
    assert AMOUNT.validate_python(written) == nano


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], "1e3", "NaN", "1.", ".5", "+1", " 1", "1 ", "", "0x1", "١",
                                   "1.0000000001", "99999999", "1\n", "-"])  # fmt: skip
def test_what_is_no_decimal_text_is_no_amount(value: Any) -> None:
    with pytest.raises(ValidationError):
        AMOUNT.validate_python(value)


@pytest.mark.parametrize(
    ("kind", "zero", "below"), [(Usd, True, True), (UsdFrom0, True, False), (UsdAbove0, False, False)]
)
def test_an_amount_may_have_a_floor(kind: Any, zero: bool, below: bool) -> None:
    for text, good in (("0", zero), ("-0.01", below), ("0.01", True)):
        try:
            TypeAdapter(kind).validate_python(text)
            assert good, text
        except ValidationError:
            assert not good, text


def test_the_schema_of_an_amount_says_what_is_accepted() -> None:
    assert AMOUNT.json_schema()["type"] == "string"
    assert Account.model_json_schema(mode="serialization")["properties"]["balance"]["type"] == "string"


def test_a_body_with_a_replys_money_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match="UsdOut is for replies"):
        type("Wrong", (Body,), {"__annotations__": {"amount": list[UsdOut] | None}, "__module__": __name__})
    with pytest.raises(TypeError, match="Usd is for bodies"):
        type("Wrong", (Reply,), {"__annotations__": {"amount": Annotated[Usd, Field()]}, "__module__": __name__})


def test_money_is_found_at_any_depth() -> None:
    fields = Account.model_fields
    assert [is_money(fields[name]) for name in ("balance", "limits", "name")] == [True, True, False]


def test_an_unknown_field_is_refused_and_what_was_sent_is_in_no_error() -> None:
    with pytest.raises(ValidationError) as caught:
        Paid.model_validate({"amount": "1", "secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["2026-12-01T00:00:00Z", "2026-12-01T01:00:00+01:00", "2026-11-30 14:00:00-10:00"])
def test_an_instant_has_a_zone_and_is_utc_inside(text: str) -> None:
    read = INSTANT.validate_python(text)
    assert read == datetime(2026, 12, 1, tzinfo=UTC) and read.utcoffset() == timedelta(0)
    assert INSTANT.dump_python(read) == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize("value", [1764547200, "1764547200", "2026-12-01", "2026-12-01T00:00:00", "", None, 1.5,
                                   "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
                                   "1969-12-31T23:59:59Z"])  # fmt: skip
def test_what_is_no_instant_of_this_age_with_a_zone_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(value)


def test_an_instant_is_written_in_utc() -> None:
    local = datetime(2026, 12, 1, 1, 0, 0, 500, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(local) == "2026-12-01T00:00:00.000500Z"


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00", "x" * 201])
def test_a_name_is_one_line(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(value)


def test_an_address_has_two_sides() -> None:
    assert TypeAdapter(Email).validate_python("ada@example.org") == "ada@example.org"
    for value in ("ada", "@", "a b@c", "a@b@c"):
        with pytest.raises(ValidationError):
            TypeAdapter(Email).validate_python(value)


def test_a_page_always_says_whether_there_is_another() -> None:
    page = Page[Account](data=[Account(balance=1)], next_cursor=None)
    assert page.model_dump(mode="json") == {
        "data": [{"balance": "0.000000001", "limits": [], "name": ""}],
        "next_cursor": None,
    }
