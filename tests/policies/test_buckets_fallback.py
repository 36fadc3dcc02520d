"""What happens to limits while the shared place of counting is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from policies.buckets import Ask, BucketsBusy, BucketsUnavailable, Failed, Look, Reading, Ticket, unheard
from policies.buckets_fallback import BucketsWithFallback, OnFailure, shared
from policies.buckets_memory import BucketsMemory
from policies.buckets_redis import BucketsRedis, connect
from policies.decision import Deny
from policies.tier import Window

WINDOW = Window(10, "requests", 60)
UNAVAILABLE = Deny("limiter_unavailable", retry_after_ms=1_000)


class Flaky:
    """A memory that can be made to fail, and counts how often it was asked."""

    def __init__(self) -> None:
        self.well = BucketsMemory()
        self.failure: Exception | None = None
        self.asked = 0

    def _place(self) -> BucketsMemory:
        self.asked += 1
        if self.failure:
            raise self.failure
        return self.well

    async def admit(self, ask: Ask) -> Ticket | Deny:
        return await self._place().admit(ask)

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        await self._place().correct(ticket, actual, forget=forget)

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        try:
            self._place().end(ticket, actual, failed, forget=forget)
        except (BucketsUnavailable, BucketsBusy) as failure:
            failed(failure)

    async def undo(self, ticket: Ticket) -> None:
        await self._place().undo(ticket)

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        await self._place().renew(tickets)

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        return await self._place().read(wallet, user, windows)

    async def peek(self, ask: Ask) -> Look:
        return await self._place().peek(ask)

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        await self._place().clear(wallet, user, windows)

    def leave(self, request_id: str) -> None:
        self.well.leave(request_id)

    async def ping(self) -> None:
        await self._place().ping()

    async def aclose(self) -> None:
        await self.well.aclose()


@pytest.fixture
def primary() -> Flaky:
    return Flaky()


@pytest.fixture
def lost() -> list[str]:
    """Grows by one for each correction that was not delivered."""
    return []


@pytest.fixture
async def buckets(primary: Flaky, lost: list[str]) -> AsyncIterator[BucketsWithFallback]:
    buckets = BucketsWithFallback(
        primary, BucketsMemory(), "local", lambda: 3, lost=lambda: lost.append("one"), probe_every_s=0.01
    )
    yield buckets
    await buckets.aclose()


def with_fallback(primary: Flaky, on_failure: OnFailure = "local", replicas: int = 3) -> BucketsWithFallback:
    return BucketsWithFallback(primary, BucketsMemory(), on_failure, lambda: replicas, probe_every_s=0.01)


def ask(cost: int = 1, window: Window = WINDOW, concurrency: int = 0) -> Ask:
    return Ask("w", "u", str(uuid4()), concurrency, rules=((window, cost),))


async def admitted(buckets: BucketsWithFallback, question: Ask) -> Ticket:
    answer = await buckets.admit(question)
    assert isinstance(answer, Ticket), answer
    return answer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def used(place: Any) -> int:
    return int((await place.read("w", "u", [WINDOW])).levels[0].used)


async def test_a_place_that_is_well_is_asked_and_nothing_is_counted_here(
    buckets: BucketsWithFallback, primary: Flaky
) -> None:
    ticket = await admitted(buckets, ask(3))
    await buckets.renew([ticket])
    await buckets.correct(ticket, [2])
    assert (ticket.local, buckets.degraded, await used(primary.well)) == (False, False, 2)
    await buckets.undo(await admitted(buckets, ask(3)))
    assert await used(primary.well) == 2


async def test_while_it_is_away_each_replica_counts_its_share(buckets: BucketsWithFallback, primary: Flaky) -> None:
    primary.failure = BucketsUnavailable("gone")
    answers = [await buckets.admit(ask()) for _ in range(10)]
    assert sum(isinstance(answer, Ticket) for answer in answers) == 3
    assert buckets.degraded
    assert await used(primary.well) == 0


async def test_while_it_is_away_calls_do_not_wait_for_it(primary: Flaky) -> None:
    buckets = BucketsWithFallback(primary, BucketsMemory(), "local", lambda: 1, probe_every_s=60)
    primary.failure = BucketsUnavailable("gone")
    for _ in range(5):
        await admitted(buckets, ask())
    assert primary.asked == 1
    await buckets.aclose()


async def test_a_probe_finds_it_well_again_without_any_call(buckets: BucketsWithFallback, primary: Flaky) -> None:
    primary.failure = BucketsUnavailable("gone")
    await buckets.admit(ask())
    await until(lambda: primary.asked > 3)
    assert buckets.degraded
    primary.failure = None
    await until(lambda: not buckets.degraded)
    assert not (await admitted(buckets, ask())).local


async def test_tickets_are_ended_where_they_were_made(buckets: BucketsWithFallback, primary: Flaky) -> None:
    primary.failure = BucketsUnavailable("gone")
    local, undone = await admitted(buckets, ask(1)), await admitted(buckets, ask(1))
    primary.failure = None
    await until(lambda: not buckets.degraded)
    await buckets.renew([local])
    await buckets.correct(local, [2])
    await buckets.undo(undone)
    assert await used(primary.well) == 0
    assert await used(buckets._local) == 2


async def test_a_call_that_runs_when_it_goes_away_ends_without_an_error(
    buckets: BucketsWithFallback, primary: Flaky, lost: list[str]
) -> None:
    first, second, third = [await admitted(buckets, ask(3)) for _ in range(3)]
    primary.failure = BucketsUnavailable("gone")
    await buckets.renew([first, second])
    await buckets.correct(first, [1])
    await buckets.undo(second)
    buckets.end(third, [1])
    assert (buckets.degraded, len(lost)) == (True, 3)
    assert await used(primary.well) == 9, "the estimate stands"


async def test_a_call_that_ends_unheard_is_noticed_where_it_cannot(
    buckets: BucketsWithFallback, primary: Flaky, lost: list[str]
) -> None:
    first, second = await admitted(buckets, ask(3)), await admitted(buckets, ask(3))
    primary.failure = BucketsBusy("full")
    buckets.end(first, [1])
    assert (buckets.degraded, len(lost)) == (False, 1)
    primary.failure = BucketsUnavailable("gone")
    buckets.end(second, [1])
    assert (buckets.degraded, len(lost)) == (True, 2)
    local = await admitted(buckets, ask(3))
    buckets.end(local, [1])
    assert (await used(buckets._local), len(lost)) == (1, 2)


async def test_the_operator_may_choose_to_refuse_instead(primary: Flaky) -> None:
    buckets = with_fallback(primary, "refuse")
    primary.failure = BucketsUnavailable("gone")
    assert [await buckets.admit(ask()) for _ in range(2)] == [UNAVAILABLE, UNAVAILABLE]
    with pytest.raises(BucketsUnavailable):
        await buckets.read("w", "u", [WINDOW])
    await buckets.aclose()


async def test_our_own_overload_refuses_and_does_not_declare_it_away(
    buckets: BucketsWithFallback, primary: Flaky, lost: list[str]
) -> None:
    ticket = await admitted(buckets, ask())
    primary.failure = BucketsBusy("full")
    assert await buckets.admit(ask()) == UNAVAILABLE
    await buckets.correct(ticket, [5])
    assert (buckets.degraded, len(lost)) == (False, 1)


async def test_a_cost_above_the_share_but_within_the_limit_may_come_again(
    buckets: BucketsWithFallback, primary: Flaky
) -> None:
    primary.failure = BucketsUnavailable("gone")
    within, above = await buckets.admit(ask(4)), await buckets.admit(ask(11))
    assert isinstance(within, Deny) and isinstance(above, Deny)
    assert (within.retry_after_ms, above.retry_after_ms) == (1_000, 0)


async def test_reading_while_it_is_away_shows_what_counts_now(buckets: BucketsWithFallback, primary: Flaky) -> None:
    await admitted(buckets, ask(5))
    primary.failure = BucketsUnavailable("gone")
    await admitted(buckets, ask(2))
    assert await used(buckets) == 2


async def test_a_peek_tells_what_a_call_would_be_told_here_or_there(
    buckets: BucketsWithFallback, primary: Flaky
) -> None:
    await admitted(buckets, ask(5))
    assert (await buckets.peek(ask(1))).levels[0].used == 5
    primary.failure = BucketsUnavailable("gone")
    first = await buckets.peek(ask(1))
    assert (first.deny, first.levels[0].used, buckets.degraded) == (None, 0, True)
    question = ask(WINDOW.limit)
    looked, told = (await buckets.peek(question)).deny, await buckets.admit(question)
    assert isinstance(told, Deny) and looked == told


async def test_a_peek_where_calls_are_refused_does_not_guess(primary: Flaky) -> None:
    buckets = with_fallback(primary, "refuse")
    primary.failure = BucketsUnavailable("gone")
    for _ in range(2):
        with pytest.raises(BucketsUnavailable):
            await buckets.peek(ask(1))
    await buckets.aclose()


async def test_clearing_says_so_if_it_could_not_reach_everything(buckets: BucketsWithFallback, primary: Flaky) -> None:
    await admitted(buckets, ask(5))
    await buckets.clear("w", "u", [WINDOW])
    assert await used(buckets) == 0
    primary.failure = BucketsUnavailable("gone")
    with pytest.raises(BucketsUnavailable):
        await buckets.clear("w", "u", [WINDOW])
    with pytest.raises(BucketsUnavailable):
        await buckets.ping()


def test_a_share_is_whole_and_never_nothing_of_something() -> None:
    whole = Ask("w", "u", "r", 5, rules=((Window(10, "requests", 60), 1), (Window(2, "tokens", 60), 1)))
    assert [window.limit for window, _ in shared(whole, 4).rules] == [2, 1]
    assert shared(whole, 4).concurrency == 1
    assert shared(ask(1, Window(0, "requests", 60)), 4).rules[0][0].limit == 0
    assert shared(ask(concurrency=0), 4).concurrency == 0, "no limit stays no limit"
    assert shared(whole, 1) == whole


async def test_the_number_of_replicas_may_be_unknown(primary: Flaky) -> None:
    buckets = with_fallback(primary, replicas=0)
    primary.failure = BucketsUnavailable("gone")
    assert (await admitted(buckets, ask(10))).used == (10,)
    await buckets.aclose()


async def test_a_real_redis_that_closes_its_door_is_replaced_and_taken_back(redis_url: str) -> None:
    primary = BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30))
    switch = connect(redis_url, connect_timeout=30, timeout=30)
    buckets = BucketsWithFallback(primary, BucketsMemory(), "local", lambda: 1, probe_every_s=0.01)
    await admitted(buckets, ask())
    try:
        await switch.config_set("maxmemory", 1)
        assert (await admitted(buckets, ask())).local
    finally:
        await switch.config_set("maxmemory", 0)
        await switch.aclose()
    await until(lambda: not buckets.degraded)
    assert not (await admitted(buckets, ask())).local
    await buckets.aclose()
