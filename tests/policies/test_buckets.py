"""The words between a place of counting and its caller: standings and refusals."""

from __future__ import annotations

from policies.buckets import Ask, Level, Ticket, strictest_standings, window_denial
from policies.decision import Standing
from policies.tier import Window

MINUTE, DAY = Window(10, "requests", 60), Window(100, "requests", 86400)
TOKENS = Window(1000, "tokens", 60)


def test_of_each_kind_the_window_with_the_least_left_is_shown() -> None:
    levels = [Level(2, 60_000), Level(95, 5_000), Level(10, 1)]
    assert strictest_standings([MINUTE, DAY, TOKENS], levels) == (
        Standing("requests", 100, 5, 5_000),
        Standing("tokens", 1000, 990, 1),
    )


def test_of_windows_with_as_much_left_the_slower_one_is_shown() -> None:
    standings = strictest_standings([MINUTE, DAY], [Level(0, 60_000), Level(90, 86_400_000)])
    assert standings == (Standing("requests", 100, 10, 86_400_000),)


def test_a_window_above_its_limit_has_nothing_left_rather_than_less() -> None:
    assert strictest_standings([MINUTE], [Level(99, 1)])[0].remaining == 0


def test_a_ticket_shows_the_standings_after_its_call() -> None:
    ticket = Ticket(Ask("w", "u", "r", rules=((MINUTE, 1),)), places=(5,), used=(4,), now_ms=5_500)
    assert ticket.standings == (Standing("requests", 10, 6, 60_500),)


def test_a_refusal_that_no_wait_can_lift_says_zero() -> None:
    assert window_denial(MINUTE, 11, 3, None).retry_after_ms == 0
    assert window_denial(MINUTE, 8, 3, 900).available == 7
