"""The rate of wrong tries."""

from __future__ import annotations

from admin_api.tries import Tries


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_few_wrong_tries_cost_nothing_and_many_a_wait() -> None:
    tries = Tries(Clock(), most=3, window_s=60)
    for _ in range(2):
        tries.wrong("a")
    assert tries.wait_s("a") == 0
    tries.wrong("a")
    assert tries.wait_s("a") == 60
    assert tries.wait_s("b") == 0


def test_the_wait_ends_when_the_oldest_try_is_old() -> None:
    clock = Clock()
    tries = Tries(clock, most=2, window_s=60)
    tries.wrong("a")
    clock.now += 20
    tries.wrong("a")
    assert tries.wait_s("a") == 40
    clock.now += 40
    assert tries.wait_s("a") == 0
    tries.wrong("a")
    assert tries.wait_s("a") == 20


def test_the_addresses_it_remembers_are_bounded() -> None:
    tries = Tries(Clock(), most=1, addresses_max=2)
    for address in ("a", "b", "a", "c"):
        tries.wrong(address)
    assert [tries.wait_s(address) > 0 for address in "abc"] == [True, False, True]
