"""Replies charged by the unit: known beforehand, replaced by a report, and their streams ended by an event."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chunk import Chunk
from gateway.filter import TERMINAL_BYTES_MAX
from gateway.meter import Reading
from gateway.sse import EventTooLarge
from gateway.units import UnitMeter, UnitTap, never, read_json, tokens
from ledger.usage import Usage, UsageSource

KNOWN = Usage(seconds=3)
REPORT = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
LAST = re.compile(rb'"type"\s*:\s*"done"')


def event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


DELTA = event({"type": "delta", "delta": "a \\ttype\\t done"})
DONE = event({"type": "done", "usage": REPORT})


def no_cost(usage: Usage) -> None:
    return None


def tapped(meter: UnitMeter, results: int = 1, event_bytes_max: int = 1000) -> UnitTap:
    return UnitTap(meter, no_cost, event_bytes_max, last=LAST, results=results)


def test_without_a_report_the_known_units_are_charged() -> None:
    meter = UnitMeter(KNOWN, UsageSource.ESTIMATED)
    assert meter.sure
    assert meter.reported is None
    assert meter.reading(9, 9) == Reading(KNOWN, UsageSource.ESTIMATED)
    assert (meter.text(), meter.estimate()) == ("", 0)


def test_a_report_takes_the_place_of_the_units_and_of_their_variant() -> None:
    meter = UnitMeter(KNOWN)
    meter.known_variant = "hd"
    assert meter.variant == "hd"
    meter.report(REPORT)
    assert meter.variant == ""
    assert meter.reading(0, 0) == Reading(Usage(input=5, output=7), UsageSource.REPORTED)
    assert meter.estimate() == 7


def test_an_unusable_report_changes_nothing_and_is_marked() -> None:
    meter = UnitMeter(KNOWN)
    meter.report({"input_tokens": -1, "output_tokens": 10**18})
    assert meter.reading(0, 0) == Reading(KNOWN, UsageSource.COUNTED, ("prompt", "completion"))


def test_reports_are_added_as_often_as_results_are_due_and_then_the_largest_holds() -> None:
    meter = UnitMeter(KNOWN, parts=2)
    for output in (7, 8, 20, 3):
        meter.report({"input_tokens": 5, "output_tokens": output})
    assert meter.reading(0, 0).usage == Usage(input=10, output=27)


def test_once_something_has_come_the_units_are_owed() -> None:
    meter = UnitMeter(KNOWN)
    meter.take(Chunk(error={"message": "busy"}))
    assert meter.reported is None
    meter.take(Chunk())
    assert meter.reported == KNOWN


def test_the_last_event_waits_for_the_settlement_and_all_before_it_passes_at_once() -> None:
    stream = tapped(UnitMeter(KNOWN))
    assert stream.feed(DELTA) == DELTA
    assert stream.feed(DONE) == b""
    assert (stream.done, stream.failed, stream.terminal, stream.close()) == (True, False, DONE, b"")
    assert stream.meter.reading(0, 0).usage == Usage(input=5, output=7)


def test_usage_on_an_earlier_event_does_not_end_the_stream() -> None:
    stream = tapped(UnitMeter(KNOWN))
    early = event({"type": "delta", "usage": REPORT})
    assert stream.feed(early) == early
    assert not stream.done


def test_the_end_of_a_stream_without_its_last_event_is_the_end_of_the_answer() -> None:
    stream = tapped(UnitMeter(KNOWN))
    passed = stream.feed(DELTA + b"data: {}") + stream.close()
    assert (passed, stream.done, stream.terminal) == (DELTA + b"data: {}", False, b"")


def test_each_of_several_results_ends_with_its_own_event() -> None:
    stream = tapped(UnitMeter(KNOWN, parts=2), results=2)
    assert stream.feed(DONE) == DONE
    assert not stream.done
    assert stream.feed(DELTA + DONE) == b""
    assert stream.terminal == DELTA + DONE
    assert stream.meter.reading(0, 0).usage == Usage(input=10, output=14)


def test_a_done_mark_ends_any_stream_and_stands_last() -> None:
    stream = tapped(UnitMeter(KNOWN))
    stream.feed(DONE)
    stream.feed(b"data: [DONE]\n\n")
    assert stream.terminal == DONE + b"data: [DONE]\n\n"
    other = UnitTap(UnitMeter(KNOWN), no_cost, 1000, last=never)
    assert other.feed(DONE) == DONE
    other.feed(b"data: [DONE]\n\n")
    assert (other.done, other.terminal) == (True, b"data: [DONE]\n\n")


def test_little_is_kept_of_what_comes_after_the_end() -> None:
    stream = tapped(UnitMeter(KNOWN))
    stream.feed(DONE)
    for _ in range(TERMINAL_BYTES_MAX // 100):
        stream.feed(b":" + b"x" * 98 + b"\n")
    stream.feed(DELTA)
    assert len(stream.terminal) <= len(DONE) + TERMINAL_BYTES_MAX


def test_keys_that_a_browser_would_act_on_never_pass() -> None:
    stream = tapped(UnitMeter(KNOWN))
    body = b'data: {"type":"delta","event":{"type":"execute"},"delta":"a"}\n\n'
    assert stream.feed(body) == b'data: {"type":"delta","delta":"a"}\n\n'


def test_an_error_in_the_stream_is_a_failure() -> None:
    stream = tapped(UnitMeter(KNOWN))
    stream.feed(event({"type": "error", "error": {"message": "busy"}}))
    assert stream.failed


def _cost(usage: Usage) -> dict[str, str]:
    return {"cost": str(usage.tokens), "balance": "1.0000"}


def test_cost_and_balance_stand_in_the_last_usage() -> None:
    stream = UnitTap(UnitMeter(KNOWN), _cost, 1000, last=LAST)
    stream.feed(DONE)
    shown = json.loads(stream.terminal.split(b"data: ")[1])["usage"]
    assert shown == {**REPORT, "cost": "12", "balance": "1.0000"}


def test_an_event_has_a_bound() -> None:
    with pytest.raises(EventTooLarge):
        tapped(UnitMeter(KNOWN)).feed(b"data: " + b"x" * 1001)


@given(st.lists(st.integers(0, len(DELTA + DONE)), max_size=6))
def test_wherever_the_network_cuts_the_bytes_and_the_charge_are_the_same(cuts: list[int]) -> None:
    body, stream = DELTA + DONE, tapped(UnitMeter(KNOWN))
    edges = [0, *sorted(cuts), len(body)]
    passed = b"".join(stream.feed(body[start:end]) for start, end in itertools.pairwise(edges))
    passed += stream.close() + stream.terminal
    assert passed == body
    assert stream.meter.reading(0, 0).usage == Usage(input=5, output=7)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(REPORT)), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*REPORT, "input_tokens_details"]), VALUES))
def test_no_report_raises_or_makes_a_negative_usage(raw: dict[str, Any]) -> None:
    usage, problems = tokens(raw)
    assert usage is None or min(usage.parts().values(), default=0) >= 0
    assert all(isinstance(problem, str) for problem in problems)


def test_a_reply_that_is_not_of_the_form_is_none() -> None:
    assert read_json(b"[1]", dict) is None
    assert read_json(b"[" * 100_000, list) is None
    assert read_json(b'{"a":1}', dict) == {"a": 1}
