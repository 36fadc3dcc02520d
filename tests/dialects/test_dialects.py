"""Every dialect, however the network cuts it: its bytes pass unchanged, it is read right, its charge is exact."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.envelope import DONE
from ledger.money import format_usd
from ledger.price import charge_amount
from ledger.usage import Usage
from tests.dialects import chat_cases, event_cases, hostile_cases, unit_cases
from tests.dialects.case import FACTOR_PPM, MARKED, Case, cost_of, cuts, ids, letters, price, read, relayed, tapped

CASES = [*chat_cases.CASES, *event_cases.CASES, *unit_cases.CASES, *hostile_cases.CASES]
STREAMS = [case for case in CASES if not case.whole]
WHOLE = [case for case in CASES if case.whole]
ADDED = re.compile(rb',"cost":"[0-9.]+","balance":"1\.0000"')
ADDED_NAMES = ("cost", "balance")


def test_there_are_dialects_of_every_route() -> None:
    routes = {case.route for case in CASES}
    assert len(CASES) >= 100 and len(routes) == 13, sorted(routes)


@pytest.mark.parametrize("case", STREAMS, ids=ids(STREAMS))
def test_a_stream_is_read_alike_however_it_is_cut(case: Case) -> None:
    request = case.request()
    for newline in case.newlines:
        sent = case.sent(newline)
        for name, pieces in cuts(sent):
            tap = tapped(case, request)
            where = f"{newline!r}, {name}"
            assert relayed(tap, pieces) == sent, where
            assert read(tap.meter) == case.reading, where
            assert (tap.meter.variant, tap.failed) == (case.variant, case.failed), where


@pytest.mark.parametrize("case", WHOLE, ids=ids(WHOLE))
def test_a_whole_reply_is_read_right(case: Case) -> None:
    meter = case.surface.whole(case.request(), case.sent(), "application/json", letters)
    assert read(meter) == case.reading
    assert meter.variant == case.variant


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_the_charge_is_exact(case: Case) -> None:
    """Prices are another prime for every kind and variant, so that nothing can stand in the place of anything else."""
    assert charge_amount(case.usage, price(), FACTOR_PPM, case.variant) == cost_of(case.usage, case.variant)


@pytest.mark.parametrize("case", STREAMS, ids=ids(STREAMS))
def test_shown_costs_are_all_that_is_added_and_what_is_charged(case: Case) -> None:
    shown: list[int] = []

    def cost(usage: Usage) -> dict[str, Any]:
        shown.append(charge_amount(usage, price(), FACTOR_PPM, tap.meter.variant))
        return {"cost": format_usd(shown[-1]), "balance": "1.0000"}

    sent = case.sent()
    tap = tapped(case, case.request(), cost)
    passed = relayed(tap, [sent])
    assert ADDED.sub(b"", passed) == sent or _without_costs(passed) == _without_costs(sent)
    if shown and tap.meter.sure and not case.problems:
        assert shown[-1] == cost_of(case.usage, case.variant)


def _without_costs(stream: bytes) -> list[Any]:
    """The stream's events, data as values, without what stands under the names of ours (a vendor may have them too)."""
    events: list[Any] = []
    for event in stream.split(b"\n\n"):
        value = _value(event)
        for holder in (value, value.get("response")) if isinstance(value, dict) else ():
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                holder["usage"] = {name: each for name, each in holder["usage"].items() if name not in ADDED_NAMES}
        events.append(value)
    return events


def _value(event: bytes) -> Any:
    """The data of an event, or its bytes where that is no JSON."""
    try:
        return json.loads(b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")))
    except ValueError:
        return event


@pytest.mark.parametrize("case", [case for case in STREAMS if case.route in MARKED[:2]], ids=ids(STREAMS))
def test_who_did_not_ask_for_usage_sees_all_but_the_chunk_of_it(case: Case) -> None:
    request = case.request(stream_options=None)
    for name, pieces in cuts(case.sent()):
        tap = tapped(case, request)
        passed = relayed(tap, pieces)
        assert passed.endswith(DONE) and read(tap.meter) == case.reading, name
        assert set(passed.splitlines()) <= set(case.sent().splitlines()), name
        assert not any(map(_only_usage, passed.split(b"\n\n"))), name


def _only_usage(event: bytes) -> bool:
    value = _value(event)
    of_usage = isinstance(value, dict) and isinstance(value.get("usage"), dict)
    return of_usage and not value.get("choices") and not value.get("error")
