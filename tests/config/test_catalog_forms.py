"""The forms as people and the admin API's readers see them; how the file is read with them: test_catalog_file.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from config.catalog import Model, Rates, Upstream
from config.catalog_forms import ModelForm, TimeoutsForm, UpstreamForm
from config.form import Form
from config.price_form import KindsForm, LongContextForm, PricesForm
from config.tier_form import AllowanceForm, TierForm, WindowForm
from policies.tier import Allowance, Tier, Window

FORMS = [
    AllowanceForm, KindsForm, LongContextForm, ModelForm, PricesForm, TierForm, TimeoutsForm, UpstreamForm, WindowForm,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_field_is_described_with_an_example_that_is_right(form: type[Form]) -> None:
    for name, field in form.model_fields.items():
        assert field.description and field.description.endswith((".", "?")), name
        assert field.examples, name
        for example in field.examples:
            _adapter(form, name).validate_python(example)


def _adapter(form: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = form.model_fields[name]
    return TypeAdapter(field.rebuild_annotation())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_a_field_is_refused(form: type[Form]) -> None:
    with pytest.raises(ValidationError, match="not permitted"):
        form.model_validate({"nonsense": 1})


@pytest.mark.parametrize(
    ("form", "value", "renamed"),
    [
        (UpstreamForm, Upstream, {}),
        (ModelForm, Model, {"tokenizer_factor_ppm": "tokenizer_factor"}),
        (TierForm, Tier, {"markup_ppm": "markup"}),
        (WindowForm, Window, {"seconds": "per", "scope": None}),
        (AllowanceForm, Allowance, {"amount": "usd", "unit": "tokens", "anniversary": "anchor"}),
    ],
)
def test_every_field_of_a_value_can_be_written(
    form: type[Form], value: type[msgspec.Struct], renamed: dict[str, str | None]
) -> None:
    fields = {renamed.get(field, field) for field in value.__struct_fields__}
    assert fields - {None} <= set(form.model_fields)


def test_the_defaults_of_a_form_are_those_of_its_value() -> None:
    assert TierForm.model_validate({"name": "t"}).value() == Tier("t")
    assert ModelForm.model_validate({"id": "m", "upstream": "u"}).value() == Model("m", "u", "m")
    assert UpstreamForm.model_validate({"name": "u", "base_url": "http://h"}).value() == Upstream("u", "http://h")
    assert PricesForm.model_validate({}).value() == Rates()
