"""Everybody takes a turn in each round; what cannot be measured does not end the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from bench.figures import Figures
from bench.machine import BenchError, Spoilt
from bench.measures import Measure, Run, Scene, Skip
from bench.rounds import take

NOBODY = cast(Scene, None)


def measure(runs: dict[str, Run], rounds_max: int = 9) -> Measure:
    @contextmanager
    def opened(_: Scene) -> Iterator[dict[str, Run]]:
        yield runs

    return Measure("calls", "some calls", "x", True, ("x",), opened, rounds_max)


def test_turns_are_taken_in_order() -> None:
    said: list[str] = []
    runs: dict[str, Run] = {"a": lambda: {"x": 1.0}, "b": lambda: {"x": 2.0}}
    measured = take(measure(runs), NOBODY, 2, said.append)
    assert said == ["calls: round 1, a", "calls: round 1, b", "calls: round 2, a", "calls: round 2, b"]
    assert measured.rounds == [{"a": {"x": 1.0}, "b": {"x": 2.0}}] * 2
    assert (measured.names, measured.runs("b")) == (["a", "b"], [{"x": 2.0}] * 2)


def test_a_long_measure_takes_fewer_rounds() -> None:
    assert len(take(measure({"a": lambda: {"x": 1.0}}, rounds_max=3), NOBODY, 5, print).rounds) == 3


def test_one_that_fails_is_told_of_and_the_others_go_on() -> None:
    def fails() -> Figures:
        raise BenchError("it ended")

    measured = take(measure({"a": fails, "b": lambda: {"x": 2.0}}), NOBODY, 1, print)
    assert (measured.failed, measured.names) == ({"a": "it ended"}, ["b"])


def test_what_is_spoilt_ends_everything() -> None:
    def spoils() -> Figures:
        raise Spoilt("the backend ended")

    with pytest.raises(Spoilt):
        take(measure({"a": spoils}), NOBODY, 1, print)


@pytest.mark.parametrize("reason", [Skip("one core"), BenchError("one core")])
def test_a_measure_that_cannot_be_taken_here_says_why(reason: Exception) -> None:
    @contextmanager
    def opened(_: Scene) -> Iterator[dict[str, Run]]:
        raise reason
        yield {}

    measured = take(Measure("workers", "", "x", True, (), opened), NOBODY, 1, print)
    assert (measured.skipped, measured.rounds) == ("one core", [])
