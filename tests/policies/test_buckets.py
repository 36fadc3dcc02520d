"""The words between a place of counting and its caller: standings and refusals."""

from __future__ import annotations

from policies.buckets import Ask, Ticket, window_denial
from policies.decision import Standing
from policies.tier import Window

MINUTE, DAY = Window(10, "requests", 60), Window(100, "requests", 86400)
TOKENS, INPUT = Window(1000, "tokens", 60), Window(100, "input_tokens", 60)


def ticket(now_ms: int, *rows: tuple[Window, int, int]) -> Ticket:
    """After a call in these windows: each with what is used, and the bucket of the newest."""
    windows, used, places = zip(*rows, strict=True)
    return Ticket(Ask("w", "u", "r", rules=tuple((window, 1) for window in windows)), places, used, now_ms)


def test_of_each_kind_the_window_with_the_least_left_is_shown() -> None:
    assert ticket(5_500, (MINUTE, 2, 5), (DAY, 95, 0), (TOKENS, 10, 5)).standings == (
        Standing("requests", 100, 5, 87_840_000 - 5_500),
        Standing("tokens", 1000, 990, 60_500),
    )


def test_of_windows_with_as_much_left_the_slower_one_is_shown() -> None:
    for rows in ((MINUTE, 1, 5), (DAY, 91, 0)), ((DAY, 91, 0), (MINUTE, 1, 5)):
        assert ticket(0, *rows).standings == (Standing("requests", 100, 9, 87_840_000),)


def test_whatever_tokens_a_window_counts_the_one_with_the_least_left_is_shown() -> None:
    rows = (TOKENS, 10, 5), (INPUT, 90, 5), (Window(5, "cost", 60), 4, 5)
    for shown in rows, rows[::-1]:
        assert ticket(5_500, *shown).standings == (Standing("tokens", 100, 10, 60_500),)


def test_of_tokens_with_as_much_left_what_is_counted_first_is_shown() -> None:
    slow, fast = (Window(100, "output_tokens", 86400), 90, 0), (INPUT, 90, 5)
    assert ticket(0, slow, fast).standings[0].reset_ms == 87_840_000
    assert ticket(0, fast, slow).standings[0].reset_ms == 66_000
    assert ticket(0, (TOKENS, 0, 0), fast, (Window(100, "tokens", 60), 90, 0)).standings[0].reset_ms == 61_000


def test_a_window_above_its_limit_has_nothing_left_rather_than_less() -> None:
    assert ticket(0, (MINUTE, 99, 1)).standings[0].remaining == 0


def test_what_is_not_used_needs_no_time_to_come_back() -> None:
    assert ticket(0, (MINUTE, 0, 1)).standings[0].reset_ms == 0


def test_a_ticket_shows_the_standings_after_its_call() -> None:
    assert ticket(5_500, (MINUTE, 4, 5)).standings == (Standing("requests", 10, 6, 60_500),)


def test_a_refusal_that_no_wait_can_lift_says_zero() -> None:
    assert window_denial(MINUTE, 11, 3, None).retry_after_ms == 0
    assert window_denial(MINUTE, 8, 3, 900).available == 7
