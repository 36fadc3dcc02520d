"""What a stream or a reply consumed: reported where the backend said so, countable where it did not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.chunk import decode
from gateway.meter import SLICE_CHARS, TEXT_CHARS_MAX, Reading, StreamMeter, meter_reply, variant_of
from ledger.usage import Usage, UsageSource

RECORDINGS = Path(__file__).parent.parent / "recordings"
EXPECTED = {
    "usage-last-chunk": Usage(input=20, cache_read=100, output=20, reasoning=10),
    "usage-in-finish-chunk-cache-hits": Usage(input=6, cache_read=12, output=14, reasoning=205),
    "usage-twice-vendor-key": Usage(input=45, output=662),
    "usage-in-tool-call-chunk": Usage(input=124, output=22),
    "usage-last-chunk-reasoning": Usage(input=24, output=271, reasoning=1084),
    "usage-on-every-chunk": Usage(input=9, output=3),
}


def words(text: str) -> int:
    return len(text.split())


def metered(*chunks: dict[str, Any]) -> StreamMeter:
    meter = StreamMeter(words)
    for each in chunks:
        chunk = decode(json.dumps(each).encode())
        assert chunk is not None
        meter.take(chunk)
    return meter


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


def report(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_habit_is_read_as_reported(name: str) -> None:
    meter = metered(*map(json.loads, (RECORDINGS / f"{name}.jsonl").read_text().splitlines()))
    assert meter.sure
    assert meter.reading(999, 999) == Reading(EXPECTED[name], UsageSource.REPORTED)


def choices(*texts: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": at, "message": {"content": text}} for at, text in enumerate(texts)], **more}


@pytest.mark.parametrize(
    ("told", "usage", "problems"),
    [
        (report(90, 400), Usage(input=90, output=400), ()),
        (report(90, 300), Usage(input=90, output=300), ()),  # another vocabulary may have longer tokens
        (report(90, 200), Usage(input=90, output=400), ("usage_of_one_choice",)),
        (report(100, 200), Usage(input=200, output=400), ("usage_of_one_choice",)),  # each choice had its own prompt
        (report(90, 0), Usage(input=90, output=0), ()),  # an explicit zero is a zero
    ],
)
def test_a_report_that_speaks_for_one_of_several_choices_is_raised_to_the_count(
    told: dict[str, int], usage: Usage, problems: tuple[str, ...]
) -> None:
    meter = metered(choices("one two", "three four", usage=told))
    source = UsageSource.COUNTED if problems else UsageSource.REPORTED
    assert not meter.sure
    assert meter.reading(200 if told["prompt_tokens"] == 100 else 80, 400) == Reading(usage, source, problems)


def test_a_small_report_for_several_choices_is_believed() -> None:
    meter = metered(choices("one two", "three four", usage=report(9, 2)))
    assert meter.reading(8, 4) == Reading(Usage(input=9, output=2), UsageSource.REPORTED)


def test_a_report_that_speaks_for_one_choice_does_not_lower_the_running_estimate() -> None:
    text = {"choices": [{"index": 1, "delta": {"content": "x" * 300}}]}
    meter = metered(text, {"choices": [], "usage": report(9, 5)})
    assert meter.estimate() == 100
    meter = metered(text, {"choices": [], "usage": report(9, 500)})
    assert meter.estimate() == 500


def test_without_a_report_the_text_is_there_to_be_counted() -> None:
    meter = metered(*map(json.loads, (RECORDINGS / "usage-none.jsonl").read_text().splitlines()))
    assert not meter.sure
    assert meter.text() == "Hello world"
    assert meter.reading(7, words(meter.text())) == Reading(Usage(input=7, output=2), UsageSource.COUNTED)


def test_every_kind_of_output_is_kept_for_the_count() -> None:
    call = {"function": {"name": "f", "arguments": '{"a":1}'}}
    delta = {"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": [{"text": "b"}]}]}
    meter = metered(
        {"choices": [{"delta": delta}, {"index": 1, "delta": {"refusal": "c", "tool_calls": [call]}}]},
        {"choices": [{"delta": {"reasoning_content": "d", "reasoning": "d"}}, {"delta": {"reasoning": "e"}}]},
        {"choices": [{"text": "g"}, {"delta": {"function_call": {"name": "h", "arguments": {"i": 1}}}}]},
    )
    assert meter.text() == 'abcf{"a":1}degh{"i":1}'


def test_an_explicit_zero_is_a_report_and_not_a_gap() -> None:
    meter = metered(said("Hello"), {"choices": [], "usage": report(0, 0)})
    assert meter.reading(9, 9) == Reading(Usage(), UsageSource.REPORTED)


def test_reports_are_cumulative_so_the_largest_holds_and_never_the_sum() -> None:
    meter = metered(
        said("a", usage=report(9, 1)), said("b", usage=report(9, 5)), {"choices": [], "usage": report(9, 3)}
    )
    assert meter.reported == Usage(input=9, output=5)


def test_text_after_the_last_report_is_not_given_away() -> None:
    meter = metered(said("", usage=report(9, 1)), said("one two three four"))
    assert not meter.sure
    assert meter.reading(0, 4) == Reading(Usage(input=9, output=4), UsageSource.COUNTED)


def test_a_count_never_lowers_what_was_reported() -> None:
    meter = metered(said("a", usage=report(9, 50)), said("b"))
    assert meter.reading(0, 2).usage == Usage(input=9, output=50)


def test_a_report_of_the_input_alone_leaves_the_output_to_be_counted() -> None:
    meter = metered(said("one two"), {"choices": [], "usage": {"prompt_tokens": 9}})
    assert meter.reading(1, 2) == Reading(Usage(input=9, output=2), UsageSource.COUNTED)


def test_a_report_of_the_output_alone_leaves_the_input_to_be_counted() -> None:
    meter = metered(said("one two"), {"choices": [], "usage": {"completion_tokens": 5}})
    assert meter.reading(7, 2) == Reading(Usage(input=7, output=5), UsageSource.COUNTED)


def test_a_hostile_report_is_named_and_the_answer_is_counted_instead() -> None:
    meter = metered(said("one two"), {"choices": [], "usage": report(-1, 10**18)})
    assert meter.reported is None
    assert meter.reading(7, 2) == Reading(Usage(input=7, output=2), UsageSource.COUNTED, ("prompt", "completion"))


def test_usage_inside_a_choice_is_found() -> None:
    meter = metered({"choices": [{"delta": {}, "finish_reason": "stop", "usage": report(4, 2)}]})
    assert meter.reported == Usage(input=4, output=2)


def test_the_running_estimate_is_bytes_or_pieces_whichever_says_more() -> None:
    assert metered(said("x" * 30)).estimate() == 10
    assert metered(*[said("x")] * 30).estimate() == 30
    assert metered(said("你好")).estimate() == 2


def test_the_running_estimate_stands_on_the_last_exact_number() -> None:
    meter = metered(said("x" * 30, usage=report(1, 4)), said("y" * 6))
    assert meter.estimate() == 6
    meter.anchor(9)
    assert meter.estimate() == 9


def test_a_very_long_answer_is_counted_in_slices_and_kept_only_in_part() -> None:
    slices: list[str] = []
    meter = StreamMeter(lambda text: slices.append(text) or 1000)  # type: ignore[func-returns-value]
    chunk = decode(json.dumps(said("ab" * 5000)).encode())
    assert chunk is not None
    for _ in range(40):
        meter.take(chunk)
    assert len(meter.text()) <= TEXT_CHARS_MAX
    assert {len(text) for text in slices} == {SLICE_CHARS}
    assert "".join(slices) + meter.text() == "ab" * 200_000
    assert meter.reading(0, 5).usage.output == 1000 * len(slices) + 5


def test_many_small_pieces_are_all_kept_in_order() -> None:
    pieces = [f"{number} " for number in range(1000)]
    assert metered(*map(said, pieces)).text() == "".join(pieces)


def test_a_whole_reply_is_metered_like_a_stream() -> None:
    body = {"choices": [{"message": {"content": "Hello world"}, "finish_reason": "stop"}], "service_tier": "flex"}
    meter = meter_reply(json.dumps({**body, "usage": report(3, 2)}).encode(), words)
    assert meter.reading(0, 0) == Reading(Usage(input=3, output=2), UsageSource.REPORTED)
    assert meter.service_tier == "flex"
    assert meter_reply(json.dumps(body).encode(), words).text() == "Hello world"


def test_an_embeddings_reply_is_all_input() -> None:
    body = {"object": "list", "data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    meter = meter_reply(json.dumps(body).encode(), words)
    assert meter.reading(0, 0) == Reading(Usage(input=8), UsageSource.REPORTED)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"choices":' + b"[" * 100_000, b'{"usage":[1]}'])
def test_a_reply_that_cannot_be_read_has_neither_usage_nor_text(body: bytes) -> None:
    meter = meter_reply(body, words)
    assert (meter.reported, meter.text(), meter.problems) == (None, "", ())


@pytest.mark.parametrize("tier", [None, "", "auto", "default", "Standard", "x" * 100, "a\nb"])
def test_the_usual_service_tier_and_what_is_no_name_have_no_variant(tier: str | None) -> None:
    assert variant_of(tier) == ""


def test_the_last_service_tier_of_a_stream_sets_the_variant() -> None:
    meter = StreamMeter(len)
    for tier in (b"auto", b"Flex"):
        chunk = decode(b'{"service_tier":"' + tier + b'"}')
        assert chunk is not None
        meter.take(chunk)
    assert meter.variant == "flex"
