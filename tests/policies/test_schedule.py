"""A period that cannot be meant is refused where it is written down, not when a call needs it."""

from __future__ import annotations

import pytest

from ledger.budget import Budget
from policies.schedule import check, check_budget


@pytest.mark.parametrize(
    ("every", "anchor"), [("month", 31), ("month", 1), ("week", 7), ("day", None), ("year", None), (None, None)]
)
def test_a_day_that_every_period_has_is_accepted(every: str | None, anchor: int | None) -> None:
    check(every, "Pacific/Kiritimati", anchor)


@pytest.mark.parametrize(
    ("every", "anchor"), [("month", 32), ("month", 0), ("week", 8), ("day", 1), ("year", 1), (None, 1)]
)
def test_a_day_no_period_begins_on_is_refused(every: str | None, anchor: int) -> None:
    with pytest.raises(ValueError, match=f"cannot begin on day {anchor}"):
        check(every, "UTC", anchor)


@pytest.mark.parametrize("zone", ["Nowhere/At_All", "", "../etc/passwd"])
def test_a_zone_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        check("month", zone, None)


def test_no_budget_and_one_for_ever_are_fine_and_one_below_zero_is_not() -> None:
    check_budget(None)
    check_budget(Budget(0))
    with pytest.raises(ValueError, match="negative"):
        check_budget(Budget(-1))
