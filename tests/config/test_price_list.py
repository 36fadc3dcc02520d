"""A price list is read to the digit; what is wrong in it refuses its model by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.catalog import Model, Rates
from config.price_list import PriceList, PriceListError, merged, names_of, read_price_list
from ledger.price import Step

CHAT: dict[str, Any] = {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07}


def read(**entries: Any) -> PriceList:
    return read_price_list(json.dumps(entries).encode())


def rates(**entry: Any) -> Rates:
    return read(m={**CHAT, **entry}).models["m"].rates


def refusal(**entry: Any) -> str:
    found = read(m={**CHAT, **entry})
    assert not found.models
    return (found.refused | found.unpriced)["m"]


def test_the_floats_of_the_file_are_taken_as_the_text_that_stands_there() -> None:
    found = read_price_list(b'{"m": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 0.00000060}}')
    assert found.models["m"] == (Rates({"input": 150_000, "output": 600_000}), ())


def test_every_kind_of_price_has_its_place() -> None:
    found = rates(
        cache_read_input_token_cost=7.5e-08,
        cache_creation_input_token_cost=2e-07,
        cache_creation_input_token_cost_above_1hr=3e-07,
        output_cost_per_reasoning_token=9e-07,
        input_cost_per_audio_token=1e-06,
        output_cost_per_audio_token=2e-06,
        input_cost_per_image_token=3e-06,
        output_cost_per_image=0.04,
        input_cost_per_second=0.0001,
        input_cost_per_character=1.5e-05,
        search_context_cost_per_query={"search_context_size_low": 0.03, "search_context_size_high": 0.05},
        max_input_tokens=128_000,
        litellm_provider="x",
    )
    assert found.pico == {
        "input": 150_000,
        "output": 600_000,
        "cache_read": 75_000,
        "cache_write": 200_000,
        "cache_write_1h": 300_000,
        "reasoning": 900_000,
        "audio_in": 1_000_000,
        "audio_out": 2_000_000,
        "image_in": 3_000_000,
        "images": 4 * 10**10,
        "seconds": 10**8,
        "characters": 15_000_000,
        "web_searches": 5 * 10**10,
    }


def test_service_tiers_and_the_long_context_are_read() -> None:
    found = rates(
        input_cost_per_token_above_200k_tokens=3e-07,
        output_cost_per_token_above_200k_tokens=9e-07,
        input_cost_per_token_batches=7.5e-08,
        cache_read_input_token_cost_flex=4e-08,
        input_cost_per_token_priority=3e-07,
        output_cost_per_token_priority=None,
    )
    assert found.long_context == Step(200_000, {"input": 300_000, "output": 900_000})
    assert found.variants == {
        "batch": {"input": 75_000},
        "flex": {"cache_read": 40_000},
        "priority": {"input": 300_000},
    }


def test_a_price_of_a_long_call_in_a_tier_that_we_reckon_otherwise_is_told() -> None:
    more = {"input_cost_per_token_above_200k_tokens": 3e-07, "input_cost_per_token_priority": 3e-07}
    right = read(m={**CHAT, **more, "input_cost_per_token_above_200k_tokens_priority": 6e-07}).models["m"]
    dearer = read(m={**CHAT, **more, "input_cost_per_token_above_200k_tokens_priority": 7e-07}).models["m"]
    assert right.notes == ()
    assert dearer.notes == ("priority input above 200000 tokens is reckoned below the list's price",)


def tier(begins: Any, ends: Any, cost: float, **more: Any) -> dict[str, Any]:
    return {"range": [begins, ends], "input_cost_per_token": cost, "output_cost_per_token": 4 * cost, **more}


def test_two_tiers_by_length_are_the_base_and_the_long_context() -> None:
    tiers = [tier(0, 256000.0, 1e-07, cache_read_input_token_cost=1e-08), tier(256000.0, 1e6, 3e-07)]
    found = read(m={"mode": "chat", "tiered_pricing": tiers}).models["m"]
    base = {"input": 100_000, "output": 400_000, "cache_read": 10_000}
    assert found == (Rates(base, 0, Step(256_000, {"input": 300_000, "output": 1_200_000})), ())


def test_tiers_by_the_number_of_results_are_told_and_not_read() -> None:
    tiers = [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]
    assert read(m={**CHAT, "tiered_pricing": tiers}).models["m"].notes[0].startswith("tiered_pricing is not read")
    assert read(m={"mode": "search", "tiered_pricing": tiers}).unpriced == {"m": "has no price that is charged here"}


def test_a_call_served_fast_costs_the_factor_in_tokens_and_nothing_more_in_searches() -> None:
    searched = {"search_context_cost_per_query": {"search_context_size_low": 0.01}}
    found = read(m={**CHAT, **searched, "provider_specific_entry": {"fast": 2.5, "us": 1.1, "schema": "v2"}}).models[
        "m"
    ]
    assert found.rates.variants == {"fast": {"input": 375_000, "output": 1_500_000}}
    assert found.rates.pico["web_searches"] == 10**10
    assert found.notes == ("provider_specific_entry us is not read: nothing here is charged by it",)


def test_an_older_name_of_cached_input_is_read() -> None:
    assert rates(input_cost_per_token_cache_hit=2e-08).pico["cache_read"] == 20_000
    both = rates(input_cost_per_token_cache_hit=2e-08, cache_read_input_token_cost=3e-08)
    assert both.pico["cache_read"] == 30_000


@pytest.mark.parametrize(
    "what",
    [
        {"off_peak_pricing": {"hours_utc": "16:30-00:30", "input_cost_per_token": 1e-08}},
        {"regional_processing_uplift_multiplier_eu": 1.1},
        {"output_cost_per_image_0.5K": 0.02},
        {"guardrail_cost_per_unit": {"words": 0.1}},
    ],
)
def test_what_would_change_a_price_and_cannot_here_is_told(what: dict[str, Any]) -> None:
    (name,) = what
    assert read(m={**CHAT, **what}).models["m"].notes == (f"{name} is not read: nothing here is charged by it",)


def test_what_is_finer_than_a_pico_usd_is_rounded_up_and_told() -> None:
    found = read(m={**CHAT, "input_cost_per_token": 1.234e-12}).models["m"]
    assert found.rates.pico["input"] == 2
    assert "input_cost_per_token is rounded up" in found.notes[0]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"input_cost_per_token": -1e-07}, "input_cost_per_token is below zero"),
        ({"file_search_cost_per_1k_calls": -1}, "file_search_cost_per_1k_calls is below zero"),
        ({"search_context_cost_per_query": {"low": -1}}, "search_context_cost_per_query low is below zero"),
        ({"input_cost_per_token": 0.15}, "input_cost_per_token is absurd"),
        ({"output_cost_per_image": 101}, "output_cost_per_image is absurd"),
        ({"input_cost_per_token": "dear"}, "input_cost_per_token is not a number"),
        ({"input_cost_per_token": "NaN"}, "input_cost_per_token is not a number"),
        ({"input_cost_per_token": True}, "input_cost_per_token is not a number"),
        ({"input_cost_per_token": [1]}, "input_cost_per_token is not a number"),
        (
            {"input_cost_per_token_above_128k_tokens": 1e-6, "output_cost_per_token_above_200k_tokens": 1e-6},
            "several long-context steps (128000, 200000)",
        ),
        (
            {"tiered_pricing": [tier(0, 1, 1e-7), tier(1, 2, 1e-6), tier(2, 3, 1e-5)]},
            "several long-context steps (1, 2)",
        ),
        ({"tiered_pricing": [{"range": [], "input_cost_per_token": 1e-7}]}, "tiered_pricing range is not a number"),
        ({"tiered_pricing": [tier(0, 9, -1e-7)]}, "input_cost_per_token is below zero"),
        ({"tiered_pricing": [tier(-5, 9, 1e-7)]}, "tiered_pricing range is below zero"),
        ({"provider_specific_entry": {"fast": -2}}, "provider_specific_entry fast is below zero"),
        ({"provider_specific_entry": {"fast": 5000}}, "provider_specific_entry fast is absurd"),
        ({"output_cost_per_token": None}, "has no price for output"),
        ({"mode": "image_generation", "input_cost_per_token": None, "output_cost_per_token": None}, "no price that"),
    ],
)
def test_what_cannot_be_meant_or_charged_refuses_its_model_alone(entry: dict[str, Any], why: str) -> None:
    assert why in refusal(**entry)
    assert read(m={**CHAT, **entry}, n=CHAT).models.keys() == {"n"}


@pytest.mark.parametrize("entry", [b"[]", b"7", b'{"input_cost_per_token": 1e9999999999999999999999}'])
def test_an_entry_that_is_no_object_of_numbers_is_refused(entry: bytes) -> None:
    assert read_price_list(b'{"m": ' + entry + b"}").refused == {"m": "is not an object with decimal numbers"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a": 1', b"[" * 100_000])
def test_what_is_no_price_list_is_an_error(data: bytes) -> None:
    with pytest.raises(PriceListError, match="is not a JSON object"):
        read_price_list(data)


def test_what_is_not_charged_here_is_told_and_the_example_is_no_model() -> None:
    found = read(
        sample_spec={"mode": "one of"},
        fallback_generalizations={"rules": []},
        m={**CHAT, "input_cost_per_pixel": 1e-8, "note_cost": 0},
    )
    assert list(found.models) == ["m"]
    assert found.models["m"].notes == ("input_cost_per_pixel is not read: nothing here is charged by it",)


def test_a_model_that_costs_nothing_says_so() -> None:
    found = read(m={"input_cost_per_token": 0, "output_cost_per_token": 0.0}).models["m"]
    assert found == (Rates({"input": 0, "output": 0}), ("is listed as free",))


def test_a_picture_is_the_output_of_an_image_model_and_a_query_is_a_request() -> None:
    for mode in ("image_generation", "image_edit"):
        found = read(m={"mode": mode, "output_cost_per_image_token": 4e-05, "input_cost_per_image": 0.02}).models["m"]
        assert found.rates.pico == {"output": 40_000_000, "images": 2 * 10**10}
    assert read(m={"mode": "rerank", "input_cost_per_query": 0.002}).models["m"].rates.per_request == 2_000_000


def test_a_name_that_cannot_be_printed_is_shown_escaped() -> None:
    assert list(read_price_list(json.dumps({"a\x1b[2J": CHAT}).encode()).models) == [ascii("a\x1b[2J")]


def test_a_model_is_looked_for_under_its_upstream_then_its_backend_name_then_ours() -> None:
    assert names_of(Model("ours", "azure", "gpt")) == ("azure/gpt", "gpt", "ours")


def test_what_a_list_cannot_say_is_kept() -> None:
    before = Rates({"input": 1}, 9, None, {"flex": {"input": 1}, "fast": {"input": 2}, "1024x1024/hd": {"images": 5}})
    after = merged(before, Rates({"input": 2}, variants={"priority": {"input": 4}}))
    assert after == Rates({"input": 2}, 9, None, {"1024x1024/hd": {"images": 5}, "priority": {"input": 4}})
    assert merged(None, Rates({"input": 2})) == Rates({"input": 2})
