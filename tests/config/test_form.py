"""What all forms have in common: a table is taken apart and put together again."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from config.catalog_fields import Usd
from config.form import Form
from config.tier_form import TierForm


class Inner(Form):
    """A table in a table."""

    amount: Usd = 0
    names: tuple[str, ...] = ()


class Outer(Form):
    """A table."""

    name: str
    inner: Inner = Inner.model_construct()
    more: dict[str, int] = Field({})


def test_a_document_has_what_is_not_usual() -> None:
    assert Outer.model_validate({"name": "a"}).document() == {"name": "a"}
    written = {"name": "a", "inner": {"amount": "5.0000", "names": ["x"]}, "more": {"b": 1}}
    assert Outer.model_validate(written).document() == written
    assert Outer.model_validate({"name": "a", "inner": {"amount": "0"}}).document() == {"name": "a"}


def test_a_form_is_not_changed_and_repeats_nothing_it_refused() -> None:
    form = Outer.model_validate({"name": "a"})
    with pytest.raises(ValidationError):
        form.name = "b"
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"name": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


def test_a_form_is_shown_as_it_is_written() -> None:
    written = {
        "name": "t",
        "price": "20.0000",
        "markup": "1.2",
        "allowance": {"tokens": 1000, "every": "month", "zone": "UTC", "anchor": "anniversary"},
        "windows": [{"limit": "5.00", "of": "cost", "per": "day"}],
    }
    shown = TierForm.model_validate(written).model_dump(mode="json", exclude_unset=True)
    assert shown == written
