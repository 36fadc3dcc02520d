"""The trace of a run, and the hash that proves a replay."""

from __future__ import annotations

from random import Random

from simulation.loop import VirtualLoop, running
from simulation.trace import Trace


def told(*words: str) -> Trace:
    loop = VirtualLoop(Random(0))
    with running(loop):
        trace = Trace(loop)
        for word in words:
            trace.tell(word, 1)
    return trace


def test_equal_events_have_equal_hashes_and_others_do_not() -> None:
    assert told("a", "b").hash == told("a", "b").hash != told("b", "a").hash
    assert len(told("a", "b")) == 2


def test_a_line_says_when_who_and_what() -> None:
    assert next(told("kill").lines()).split() == ["0.0000", "world", "kill", "1"]
