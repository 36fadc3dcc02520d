"""Recorded streams, cut in every way, read in this process; `tests/stories/test_recordings.py` uses sockets."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ledger.price import charge_amount
from ledger.usage import Usage, UsageSource
from tests.dialects.case import (
    COUNTED_INPUT,
    FACTOR_PPM,
    NEWLINES,
    Case,
    cost_of,
    cuts,
    letters,
    price,
    read,
    relayed,
    tapped,
)
from tests.dialects.recording import Recording, recordings

RECORDINGS = recordings()


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_recording_is_read_alike_however_it_is_cut(recording: Recording) -> None:
    case = Case(recording.name, recording.route, Usage(), ())
    request, reported = case.request(), recording.usage
    expected = reported or Usage(input=COUNTED_INPUT, output=letters(recording.text))
    source = UsageSource.COUNTED if reported is None else UsageSource.REPORTED
    for newline in NEWLINES:
        sent = recording.sent(newline)
        for name, pieces in cuts(sent):
            tap = tapped(case, request)
            where = f"{newline!r}, {name}"
            assert relayed(tap, pieces) == sent, where
            reading = read(tap.meter)
            assert (reading.usage, reading.source) == (expected, source), where
            assert (tap.meter.variant, tap.failed) == (recording.variant, recording.failed), where
            amount = charge_amount(reading.usage, price(), FACTOR_PPM, tap.meter.variant)
            assert amount == cost_of(expected, recording.variant), where


def test_the_names_of_recordings_are_all_different() -> None:
    names = sorted(recording.name for recording in RECORDINGS)
    assert all(one != other for one, other in pairwise(names)) and len(names) >= 20
