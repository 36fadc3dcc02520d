"""Complaints: places as the operator wrote them, words an operator understands."""

from __future__ import annotations

from config.complaints import Complaint, ComplaintsError, did_you_mean, path_text, plain


def test_a_place_is_written_as_in_the_file() -> None:
    assert path_text(("models", 2, "prices", "input")) == "models[2].prices.input"


def test_an_error_has_one_line_for_each_complaint() -> None:
    assert str(ComplaintsError([Complaint("a", "is missing"), Complaint("b", "is odd")])) == "a: is missing\nb: is odd"


def test_a_close_name_is_suggested_and_a_far_one_is_not() -> None:
    assert did_you_mean("hedaers", ["headers", "name"]) == "; did you mean headers?"
    assert did_you_mean("zzz", ["headers", "name"]) == ""


def test_the_librarys_wording_becomes_plain() -> None:
    assert plain({"type": "missing", "msg": "Field required"}) == "is missing"
    assert plain({"type": "value_error", "msg": "Value error, must be odd"}) == "must be odd"
    assert plain({"type": "greater_than", "msg": "Input should be greater than 0"}) == "must be greater than 0"
    assert plain({"type": "default_factory_not_called", "msg": "…"}) is None
