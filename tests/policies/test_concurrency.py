"""Slots: how many calls are open, and that a leaked one frees itself."""

from __future__ import annotations

from policies import concurrency


def test_a_slot_lives_until_its_expiry_and_not_a_moment_longer() -> None:
    assert concurrency.live({"a": 100, "b": 101}, 100) == {"b": 101}


def test_the_limit_is_the_number_of_calls_that_may_be_open() -> None:
    assert concurrency.check(1, 2) is None
    denial = concurrency.check(2, 2)
    assert denial is not None
    assert (denial.code, denial.limit_value, denial.used) == ("too_many_concurrent", 2, 2)
    assert denial.retry_after_ms > 0


def test_no_limit_never_refuses() -> None:
    assert concurrency.check(10**6, 0) is None
