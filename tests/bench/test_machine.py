"""Who sits on which core, and what the machine is."""

from __future__ import annotations

import os

import pytest

from bench.machine import BenchError, allowed, busy_s, description, places, sitting_on, versions


def cores(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def test_with_two_cores_what_is_measured_has_one_alone() -> None:
    seats = places(cores(0, 1))
    assert seats.measured == cores(1)
    assert seats.engines == seats.backend == seats.load == seats.others == cores(0)


def test_with_three_the_backend_and_the_load_are_apart() -> None:
    seats = places(cores(0, 1, 2))
    assert (seats.measured, seats.backend, seats.load, seats.engines) == (cores(2), cores(0), cores(1), cores(0, 1))


def test_with_more_everybody_is_apart() -> None:
    seats = places(cores(0, 2, 4, 6, 8))
    assert (seats.measured, seats.load, seats.backend, seats.engines) == (cores(8), cores(0), cores(2), cores(4, 6))
    assert seats.others == cores(0, 2, 4, 6)


def test_one_core_is_not_enough() -> None:
    with pytest.raises(BenchError, match="two cores"):
        places(cores(0))


def test_elsewhere_than_on_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(BenchError, match="needs Linux"):
        allowed()


def test_a_seat_is_left_again() -> None:
    before = os.sched_getaffinity(0)
    with sitting_on(frozenset({min(before)})):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_busy_core_is_seen() -> None:
    mine = frozenset(os.sched_getaffinity(0))
    before = busy_s(mine)
    while busy_s(mine) < before + 0.05:
        sum(range(10_000))
    assert busy_s(frozenset()) == 0


def test_the_machine_and_its_software_are_named() -> None:
    about = description()
    assert about["cores"] == os.cpu_count() and about["kernel"] == os.uname().release
    assert {"python", "farebox", "uvicorn", "asyncpg"} <= versions().keys()
