"""Usage in the words of many backends becomes the same disjoint parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialect import FIELD_MAX, Report, disjoint, merge, read
from ledger.usage import KINDS, Usage

P, C = "prompt_tokens_details", "completion_tokens_details"
HOSTILE = [-1, 10**18, "12", True, 1.5, float("nan"), float("inf"), [], {}, "x" * 50, -(10**30)]
NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", P, C, "cached_tokens"]
NAMES += ["reasoning_tokens", "audio_tokens", "image_tokens", "cache_read_input_tokens", "cache_creation"]
NUMBERS = st.integers(-5, 5000) | st.sampled_from(HOSTILE) | st.none()
REPORTS = st.dictionaries(
    st.sampled_from(NAMES), NUMBERS | st.dictionaries(st.sampled_from(NAMES), NUMBERS, max_size=5), max_size=9
)


def reported(raw: dict[str, Any]) -> Report | None:
    """What one report alone says; None where it says nothing."""
    counts, problems = read(raw)
    return disjoint(counts, problems) if counts else None


def usage_of(raw: dict[str, Any]) -> Usage:
    report = reported(raw)
    assert report is not None
    return report.usage


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(input=5, output=2), id="plain"
        ),
        pytest.param({"input_tokens": 5, "output_tokens": 2}, Usage(input=5, output=2), id="input-output-names"),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 0, P: {"cached_tokens": 8}},
            Usage(input=2, cache_read=8),
            id="cache-inside",
        ),
        pytest.param(
            {"prompt_tokens": 18, "completion_tokens": 1, "prompt_cache_hit_tokens": 12, "prompt_cache_miss_tokens": 6},
            Usage(input=6, cache_read=12, output=1),
            id="cache-hit-names",
        ),
        pytest.param(
            {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 30},
            Usage(input=10, cache_read=90, cache_write=30, output=2),
            id="cache-apart-by-name",
        ),
        pytest.param(
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            Usage(input=1, cache_write=10, cache_write_1h=20, output=2),
            id="cache-write-by-time-to-live",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 102, P: {"cached_tokens": 90}},
            Usage(input=10, cache_read=90, output=2),
            id="cache-apart-by-total",
        ),
        pytest.param(
            {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 4}},
            Usage(input=6, cache_read=4, output=2),
            id="cache-inside-with-input-names",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19, C: {"reasoning_tokens": 7}},
            Usage(input=10, output=2, reasoning=7),
            id="reasoning-inside",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 319, C: {"reasoning_tokens": 300}},
            Usage(input=10, output=9, reasoning=300),
            id="reasoning-apart",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 319},
            Usage(input=10, output=9, reasoning=300),
            id="reasoning-told-by-the-total-alone",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 9, P: {"audio_tokens": 4}, C: {"audio_tokens": 5}},
            Usage(input=6, audio_in=4, output=4, audio_out=5),
            id="audio",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 0, P: {"cache_write_tokens": 6, "image_tokens": 3}},
            Usage(input=1, cache_write=6, image_in=3),
            id="cache-write-and-image-inside",
        ),
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Usage(input=8), id="embeddings"),
        pytest.param({"total_tokens": 8}, Usage(input=8), id="total-alone"),
        pytest.param({"completion_tokens": 3, "total_tokens": 8}, Usage(input=5, output=3), id="input-from-total"),
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(), id="zero-is-zero"),
        pytest.param({"prompt_tokens": 5.0, "completion_tokens": 2.0}, Usage(input=5, output=2), id="whole-floats"),
        pytest.param(
            {"prompt_tokens": 5, "completion_tokens": 2, "server_tool_use": {"web_search_requests": 3}},
            Usage(input=5, output=2, web_searches=3),
            id="web-searches",
        ),
        pytest.param(
            {"prompt_tokens": 5, "completion_tokens": 2, P: None, C: None}, Usage(input=5, output=2), id="null-details"
        ),
    ],
)
def test_a_dialect_is_read_into_disjoint_parts(raw: dict[str, Any], expected: Usage) -> None:
    assert usage_of(raw) == expected


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_report_whose_input_or_output_is_unusable_counts_as_none(name: str, value: Any) -> None:
    raw = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7} | {name: value}
    assert reported(raw) is None
    assert read(raw)[1] == (name.removesuffix("_tokens"),)


@pytest.mark.parametrize("value", HOSTILE)
def test_an_unusable_detail_is_dropped_and_named_and_the_rest_holds(value: Any) -> None:
    report = reported({"prompt_tokens": 5, "completion_tokens": 2, P: {"cached_tokens": value}})
    assert report is not None
    assert (report.usage, report.problems) == (Usage(input=5, output=2), ("cached",))


def test_an_absurd_total_charges_nothing_and_is_named() -> None:
    report = reported({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 50_000_000})
    assert report is not None
    assert (report.usage, report.problems) == (Usage(input=5, output=2), ("total",))


def test_more_cached_than_input_gives_nothing_the_cheaper_price() -> None:
    report = reported({"prompt_tokens": 5, "completion_tokens": 2, P: {"cached_tokens": 500}})
    assert report is not None
    assert (report.usage, report.problems) == (Usage(input=5, output=2), ("cached",))


def test_where_parts_overlap_the_cheap_one_gives_way() -> None:
    report = reported({"prompt_tokens": 10, "completion_tokens": 0, P: {"cached_tokens": 8, "audio_tokens": 6}})
    assert report is not None
    assert (report.usage, report.problems) == (Usage(audio_in=6, cache_read=4), ("cache_read",))


def test_reasoning_beyond_an_output_that_the_total_confirms_is_bounded_by_it() -> None:
    report = reported({"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6, C: {"reasoning_tokens": 50}})
    assert report is not None
    assert report.usage == Usage(input=1, reasoning=5)
    assert "reasoning" in report.problems


def test_a_part_that_is_nothing_says_no_more_than_one_that_is_left_out() -> None:
    plain = {"prompt_tokens": 17, "completion_tokens": 48, "total_tokens": 65}
    itemised = {**plain, P: {"cached_tokens": 0, "audio_tokens": 0}, C: {"reasoning_tokens": 0, "audio_tokens": 0}}
    assert read(itemised) == read(plain) == ({"prompt": 17, "completion": 48, "total": 65}, ())
    assert read({"prompt_tokens": 0})[0] == {"prompt": 0}


def test_later_reports_raise_numbers_before_they_are_divided() -> None:
    early, _ = read({"prompt_tokens": 100, "completion_tokens": 1})
    late, _ = read({"prompt_tokens": 100, "completion_tokens": 5, P: {"cached_tokens": 80}})
    for counts in (merge(early, late), merge(late, early)):
        assert disjoint(counts).usage == Usage(input=20, cache_read=80, output=5)


def test_cache_writes_are_told_apart_by_their_time_to_live() -> None:
    apart = {"input_tokens": 5, "output_tokens": 1}
    lives = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}
    both = Usage(input=5, cache_write=30, cache_write_1h=20, output=1)
    assert usage_of({**apart, "cache_creation": lives}) == both
    assert usage_of({**apart, "cache_creation": lives, "cache_creation_input_tokens": 50}) == both
    within = {"cache_write_tokens": 4, "cache_write_tokens_details": {"ttl_30m": 1, "ttl_12h": 3}}
    assert usage_of({**apart, "input_tokens_details": within}) == Usage(
        input=1, cache_write=1, cache_write_1h=3, output=1
    )


def test_what_a_report_does_not_speak_of_is_known_to_be_missing() -> None:
    report = reported({"prompt_tokens": 5})
    assert report is not None
    assert (report.input_known, report.output_known) == (True, False)


@given(raw=REPORTS)
def test_no_report_raises_or_gives_a_negative_or_absurd_number(raw: dict[str, Any]) -> None:
    report = reported(raw)
    if report is not None:
        assert all(0 <= getattr(report.usage, kind) <= 2 * FIELD_MAX for kind in KINDS)


@given(
    prompt=st.integers(0, 1000), output=st.integers(0, 1000), cached=st.integers(0, 2000), audio=st.integers(0, 2000)
)
def test_without_a_total_the_parts_always_add_up_to_what_was_reported(
    prompt: int, output: int, cached: int, audio: int
) -> None:
    details = {P: {"cached_tokens": cached, "audio_tokens": audio}, C: {"audio_tokens": audio}}
    usage = usage_of({"prompt_tokens": prompt, "completion_tokens": output, **details})
    assert (usage.input_tokens, usage.output_tokens) == (prompt, output)
