"""Fields of the forms: what they take, what they make of it, and how they say it again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config import catalog_fields as fields

_TAKEN: list[tuple[Any, Any, int, Any]] = [
    (fields.Usd, "5.00", 5 * 10**9, "5.0000"),
    (fields.Usd, 20, 20 * 10**9, "20.0000"),
    (fields.Usd, Decimal("0.000000001"), 1, "0.000000001"),
    (fields.Pico, "0.0375", 37_500, "0.0375"),
    (fields.UnitPico, "0.04", 4 * 10**10, "0.04"),
    (fields.Ppm, "1.2", 1_200_000, "1.2"),
    (fields.Ppm, Decimal("10"), 10_000_000, "10"),
    (fields.Ppm, 0, 0, "0"),
    (fields.Per, "minute", 60, "minute"),
    (fields.Per, 90, 90, 90),
    (fields.Per, 60, 60, "minute"),
]


@pytest.mark.parametrize(("kind", "written", "inside", "shown"), _TAKEN)
def test_what_is_written_is_a_whole_number_inside_and_the_same_text_outside(
    kind: Any, written: Any, inside: int, shown: Any
) -> None:
    adapter = TypeAdapter[Any](kind)
    assert adapter.validate_python(written) == inside
    assert json.loads(adapter.dump_json(inside)) == shown
    assert adapter.validate_python(shown) == inside


_REFUSED: list[tuple[Any, Sequence[Any]]] = [
    (fields.Usd, ("-1", 1.5, True, None, "", "x", "NaN", "0.0000000001", "9000001", [1])),
    (fields.Pico, ("-0.1", 0.5, "1000001", "0.0000001")),
    (fields.UnitPico, ("-0.1", 0.5, "1001")),
    (fields.Ppm, (1.2, "1.2345678", "-1", "1001", True, None, "NaN", "Infinity", [], "x")),
    (fields.Per, ("fortnight", 0, -1, 60.0, True, None, 366 * 86_400 + 1)),
    (fields.Name, ("", "a b", "a\n", "a\x00", "a\x7f", "\u00a0", "x" * 201, 5)),
    (fields.Line, ("a\nb", "\x00", "x" * 201, None)),
    (fields.Prose, ("\x00", "x" * 8001)),
    (fields.Tokens, (0, "5", 5.0, True, 10**9 + 1)),
    (fields.Yes, ("yes", 1, "true")),
    (fields.Patience, (0, -1, "5", True, float("nan"), float("inf"), 86_401)),
    (fields.Zone, ("Mars/A", "../etc/passwd", "", "/etc", "x" * 65, "\x00")),
    (fields.Variable, ("A-B", "1A", "A B", "\x00")),
    (fields.Patterns, ([""], ["a b"], ["x"] * 257)),
]


@pytest.mark.parametrize(("kind", "wrong"), [(kind, wrong) for kind, wrongs in _REFUSED for wrong in wrongs])
def test_what_cannot_be_meant_is_refused(kind: Any, wrong: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](kind).validate_python(wrong)


@pytest.mark.parametrize(
    "address", ["", "ftp://h", "http://", "http://a b", "http://h\x00", "http://h:0", "http://h:x", "http://[::1", "h",
                "http://user:pw@h", "http://user@h", "http://hé", "https://h/" + "x" * 2000],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_refused(address: str) -> None:
    for kind in (fields.WebAddress, fields.BaseAddress):
        with pytest.raises(ValidationError):
            TypeAdapter[Any](kind).validate_python(address)


def test_a_base_address_ends_where_paths_begin() -> None:
    base = TypeAdapter[Any](fields.BaseAddress)
    assert base.validate_python("http://127.0.0.1:8000/v1/") == "http://127.0.0.1:8000/v1"
    for address in ("http://h/v1?a=b", "http://h/v1#x"):
        assert TypeAdapter[Any](fields.WebAddress).validate_python(address) == address
        with pytest.raises(ValidationError, match="query"):
            base.validate_python(address)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "proxy-authorization", "bad name", "", "x:y"])
def test_a_header_that_the_gateway_writes_or_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](fields.Headers).validate_python({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nb: c", "ä", "x" * 4097])
def test_a_headers_value_is_one_line_of_ascii(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](fields.Headers).validate_python({"x-a": value})


def test_header_names_are_lower_case_inside() -> None:
    assert TypeAdapter[Any](fields.Headers).validate_python({"X-Team": "a"}) == {"x-team": "a"}


@pytest.mark.parametrize("kind", [fields.Usd, fields.Pico, fields.UnitPico, fields.Ppm])
def test_what_the_schema_says_is_what_is_taken(kind: Any) -> None:
    adapter = TypeAdapter[Any](kind)
    text, number = adapter.json_schema()["anyOf"]
    for written in ("1", "12.5", "0.000001"):
        assert re.search(text["pattern"], written) and adapter.validate_python(written) >= 0
    assert number == {"type": "integer", "minimum": 0}
    out = adapter.json_schema(mode="serialization")
    assert out["type"] == "string" and re.search(out["pattern"], json.loads(adapter.dump_json(5)))
