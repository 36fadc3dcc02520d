"""One rolling window walked through time; and its promises: never above the limit, wait enough, wait no longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies import rate
from policies.rate import Counter
from policies.tier import Window

MINUTE = Window(10, "tokens", 60)
Steps = list[tuple[int, int]]
WINDOWS = st.builds(Window, st.integers(1, 50), st.just("tokens"), st.sampled_from([1, 7, 60, 61, 3600, 2592000]))


def steps() -> st.SearchStrategy[Steps]:
    """(how much of the window passes, in thousandths; cost) again and again."""
    return st.lists(st.tuples(st.integers(0, 400), st.integers(0, 20)), max_size=60)


def walk(window: Window, moves: Steps) -> tuple[Counter, list[tuple[int, int]], int]:
    """Admits what fits; returns the counter, (time, cost) of what was admitted, and the time at the end."""
    counter, admitted, now = Counter(), [], 1_700_000_000_000
    for passed, cost in moves:
        now += passed * window.seconds
        counter = rate.pruned(counter, window.seconds, now)
        if rate.wait_ms(counter, window, cost, now) == 0:
            counter = rate.spent(counter, window.seconds, cost, now)
            admitted.append((now, cost))
    return counter, admitted, now


def test_a_minute_is_counted_in_seconds_and_any_other_window_in_sixtieths() -> None:
    assert rate.width_ms(60) == 1000
    assert rate.width_ms(3600) == 60_000
    assert rate.width_ms(1) == 17


def test_one_window_walked_through_time() -> None:
    counter = rate.spent(Counter(), 60, 6, 500)
    counter = rate.spent(counter, 60, 3, 30_000)
    assert counter.used == 9
    assert rate.wait_ms(counter, MINUTE, 1, 30_000) == 0
    assert rate.wait_ms(counter, MINUTE, 2, 30_000) == 31_000, "the six leave at 61 s, when all of second 0 is 60 s ago"
    assert rate.pruned(counter, 60, 60_999) == counter
    assert rate.pruned(counter, 60, 61_000).used == 3
    assert rate.wait_ms(counter, MINUTE, 8, 30_000) == 61_000
    assert rate.reset_ms(counter.used, counter.newest, 60, 30_000) == 61_000
    assert rate.pruned(counter, 60, 91_000) == Counter()


def test_a_cost_above_the_limit_never_fits() -> None:
    assert rate.wait_ms(Counter(), MINUTE, 11, 0) is None
    assert rate.wait_ms(Counter(), Window(0, "requests", 60), 1, 0) is None


def test_the_wait_counts_also_what_a_correction_has_put_above_the_limit() -> None:
    counter = rate.amended(rate.spent(Counter(), 60, 6, 500), 0, 20)
    assert rate.wait_ms(counter, MINUTE, 1, 500) == 60_500


def test_a_correction_stays_in_the_bucket_of_admission_and_above_zero() -> None:
    counter = rate.spent(rate.spent(Counter(), 60, 6, 500), 60, 3, 1500)
    assert rate.amended(counter, 0, -4).buckets == ((0, 2), (1, 3))
    assert rate.amended(counter, 0, -40).buckets == ((0, 0), (1, 3))
    assert rate.amended(counter, 7, 5) == counter


def test_a_clock_that_steps_back_opens_no_older_bucket() -> None:
    counter = rate.spent(rate.spent(Counter(), 60, 1, 50_000), 60, 1, 10_000)
    assert counter.buckets == ((50, 2),)
    assert rate.pruned(counter, 60, 10_000) == counter


def test_nothing_used_needs_no_reset() -> None:
    assert rate.reset_ms(0, 99, 60, 0) == 0
    assert Counter().newest == 0


@given(WINDOWS, steps())
def test_no_interval_as_long_as_the_window_ever_holds_more_than_the_limit(window: Window, moves: Steps) -> None:
    _, admitted, _ = walk(window, moves)
    for end, _ in admitted:
        assert sum(cost for at, cost in admitted if end - window.seconds * 1000 < at <= end) <= window.limit


@given(WINDOWS, steps(), st.integers(1, 50))
def test_the_wait_is_enough_and_one_millisecond_less_is_not(window: Window, moves: Steps, cost: int) -> None:
    counter, _, now = walk(window, moves)
    wait = rate.wait_ms(counter, window, cost, now)
    assert (wait is None) is (cost > window.limit)
    if wait:
        assert _wait_at(counter, window, cost, now + wait) == 0
        assert _wait_at(counter, window, cost, now + wait - 1) == 1


def _wait_at(counter: Counter, window: Window, cost: int, then: int) -> int | None:
    return rate.wait_ms(rate.pruned(counter, window.seconds, then), window, cost, then)


@given(WINDOWS, steps())
def test_a_counter_is_bounded_and_comes_back_whole_after_its_reset(window: Window, moves: Steps) -> None:
    counter, _, now = walk(window, moves)
    assert len(counter.buckets) <= 62
    reset = rate.reset_ms(counter.used, counter.newest, window.seconds, now)
    if counter.used:
        assert rate.pruned(counter, window.seconds, now + reset - 1).buckets == counter.buckets[-1:]
        assert rate.pruned(counter, window.seconds, now + reset) == Counter()


@given(WINDOWS, steps())
def test_an_amount_comes_back_at_most_one_bucket_late(window: Window, moves: Steps) -> None:
    _, admitted, now = walk(window, moves)
    late = window.seconds * 1000 + rate.width_ms(window.seconds)
    counter, _, _ = walk(window, moves)
    assert counter.used <= sum(cost for at, cost in admitted if at > now - late)
