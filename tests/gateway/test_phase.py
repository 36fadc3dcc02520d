"""The words for where a call stands; two files must mean the same by them."""

from __future__ import annotations

from typing import get_args

from gateway.phase import Phase, Stop
from gateway.upstream import FailureKind


def test_every_timeout_is_a_word_of_the_upstream_too() -> None:
    timeouts = {Stop.FIRST_BYTE, Stop.IDLE, Stop.TOTAL}
    assert {stop.value for stop in timeouts} <= set(get_args(FailureKind))
    assert {stop for stop in Stop if stop.value.endswith("timeout")} == timeouts


def test_a_call_ends_after_it_was_sent() -> None:
    assert [*Phase] == [Phase.ADMITTING, Phase.OPENING, Phase.STREAMING, Phase.SENDING, Phase.ENDING]
