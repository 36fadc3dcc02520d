"""Merge patches as RFC 7396 has them, and the bodies that bring them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from admin_api.merge_patch import merged, patch_of, sent
from config.catalog_forms import ModelForm, UpstreamForm
from config.tier_form import TierForm

# Those of the RFC's appendix A whose documents are objects.
_RFC: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ({"a": "foo"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
]


@pytest.mark.parametrize(("document", "patch", "result"), _RFC)
def test_the_examples_of_the_rfc_hold(document: Any, patch: Any, result: Any) -> None:
    assert merged(document, patch) == result


def test_neither_the_document_nor_the_patch_is_changed() -> None:
    document, patch = {"a": {"b": 1}}, {"a": {"b": None, "c": 2}}
    assert merged(document, patch) == {"a": {"c": 2}}
    assert (document, patch) == ({"a": {"b": 1}}, {"a": {"b": None, "c": 2}})


@pytest.mark.parametrize("form", [TierForm, ModelForm, UpstreamForm])
def test_every_field_may_be_left_out_or_null(form: Any) -> None:
    patch = patch_of(form, "Patch")
    assert set(patch.model_fields) == set(form.model_fields)
    assert sent(patch.model_validate({})) == {}
    nulls = dict.fromkeys(form.model_fields)
    assert sent(patch.model_validate(nulls)) == nulls
    assert all(field.description and field.examples for field in patch.model_fields.values())


def test_a_patch_says_again_what_it_was_sent() -> None:
    body = {
        "price": "20.0000",
        "markup": "1.2",
        "allowance": {"zone": "Europe/Berlin"},
        "windows": [{"limit": 5, "of": "requests", "per": "minute"}],
        "title": None,
    }
    assert sent(patch_of(TierForm, "Patch").model_validate(body)) == body


def test_a_table_may_be_sent_in_part() -> None:
    model = patch_of(ModelForm, "Patch").model_validate({"prices": {"long_context": {"input": "1"}}})
    assert sent(model) == {"prices": {"long_context": {"input": "1"}}}
    upstream = patch_of(UpstreamForm, "Patch").model_validate({"headers": {"x-a": None}, "timeouts": {"idle_s": 5}})
    assert sent(upstream) == {"headers": {"x-a": None}, "timeouts": {"idle_s": 5}}


@pytest.mark.parametrize("body", [{"nonsense": 1}, {"concurrency": "4"}, {"price": 1.5}, {"windows": {}}])
def test_what_no_entry_could_say_is_refused_at_once(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        patch_of(TierForm, "Patch").model_validate(body)
