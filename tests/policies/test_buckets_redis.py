"""Limits in a real Redis: the scripts against their specification, and what happens when Redis is not itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MaxConnectionsError

from policies.buckets import MARK_TTL_MS, Ask, Buckets, BucketsBusy, BucketsUnavailable, Ticket
from policies.buckets_memory import BucketsMemory
from policies.buckets_redis import BucketsRedis, connect
from policies.concurrency import SLOT_TTL_MS
from policies.decision import Deny
from policies.tier import Window

WINDOWS = (
    Window(5, "requests", 1),
    Window(20, "tokens", 7),
    Window(9, "requests", 60),
    Window(60, "output_tokens", 61),
    Window(10**15, "cost", 3600, "chat.completions", ("gpt-4*",)),
)
COSTS = st.tuples(st.just(1), st.integers(0, 25), st.just(1), st.integers(0, 70), st.integers(0, 4 * 10**14))
STEP = st.tuples(
    st.sampled_from(["admit", "admit", "admit", "correct", "undo", "renew", "again"]),
    st.sampled_from([0, 0, 1, 16, 17, 300, 1000, 5000, 20_000, 62_000, 900_000]),
    COSTS,
    st.integers(0, 3),
)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def buckets(redis_url: str) -> AsyncIterator[BucketsRedis]:
    buckets = BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30))
    yield buckets
    await buckets.aclose()


def ask(*rules: tuple[Window, int], **more: object) -> Ask:
    return Ask("wallet", "u", str(uuid4()), rules=rules, **more)  # type: ignore[arg-type] # fields of Ask, by name


class Keeping:
    """For how long Redis certainly keeps what is counted in a window: its keys end by its own clock, whatever clock the
    scripts are given. An example that lasts longer, because the process stood still, says nothing from there on."""

    def __init__(self, window: Window) -> None:
        self._ends = asyncio.get_running_loop().time() + window.seconds

    @property
    def over(self) -> bool:
        return asyncio.get_running_loop().time() > self._ends


class Play:
    """One script of steps, played in one place of counting."""

    def __init__(self, place: Buckets, wallet: str) -> None:
        self.place = place
        self.wallet = wallet
        self.tickets: list[Ticket] = []

    async def step(self, number: int, verb: str, costs: tuple[int, ...], pick: int) -> Ticket | Deny | None:
        if verb == "admit" or not self.tickets:
            rules = tuple(zip(WINDOWS, costs, strict=True))[pick:]
            return await self._admit(Ask(self.wallet, "u", str(number), 4, f"key-{pick}-{number % 5}", rules))
        ticket = self.tickets[pick % len(self.tickets)]
        if verb == "again":
            return await self._admit(ticket.ask)
        if verb == "renew":
            await self.place.renew([ticket])
        elif verb == "undo":
            await self.place.undo(ticket)
        else:
            await self.place.correct(ticket, costs[: len(ticket.ask.rules)])
        return None

    async def _admit(self, question: Ask) -> Ticket | Deny:
        answer = await self.place.admit(question)
        if isinstance(answer, Ticket):
            self.tickets.append(answer)
        return answer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=60))
async def test_the_scripts_and_their_specification_never_differ(
    redis_url: str, steps: list[tuple[str, int, tuple[int, ...], int]]
) -> None:
    now, wallet = 1_700_000_000_000, str(uuid4())

    def clock() -> int:
        return now

    memory, redis = BucketsMemory(clock), BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30), clock)
    plays, kept = (Play(memory, wallet), Play(redis, wallet)), Keeping(WINDOWS[0])
    try:
        for number, (verb, passed, costs, pick) in enumerate(steps):
            now += passed
            specified, scripted = [await play.step(number, verb, costs, pick) for play in plays]
            levels, scripted_levels = [await place.read(wallet, "u", WINDOWS) for place in (memory, redis)]
            if kept.over:
                return
            assert (scripted, scripted_levels) == (specified, levels)
    finally:
        await redis.aclose()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WINDOWS),
    st.lists(st.tuples(st.integers(-30, 400), st.integers(0, 10)), min_size=8, max_size=80),
)
async def test_one_window_walked_through_time_is_the_same_in_both(
    redis_url: str, window: Window, moves: list[tuple[int, int]]
) -> None:
    """Moves are (thousandths of the window that pass, cost in tenths of the limit); the clock may step back."""
    now, wallet = 1_700_000_000_000, str(uuid4())

    def clock() -> int:
        return now

    memory, redis = BucketsMemory(clock), BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30), clock)
    kept = Keeping(window)
    try:
        for number, (passed, tenths) in enumerate(moves):
            now += passed * window.seconds
            question = Ask(wallet, "u", str(number), rules=((window, tenths * window.limit // 10),))
            specified, scripted = [await place.admit(question) for place in (memory, redis)]
            levels, scripted_levels = [await place.read(wallet, "u", [window]) for place in (memory, redis)]
            if kept.over:
                return
            assert (scripted, scripted_levels) == (specified, levels)
    finally:
        await redis.aclose()


async def test_a_total_is_always_the_sum_of_its_buckets(redis_url: str, client: Redis) -> None:
    now = 1_700_000_000_000
    buckets = BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30), lambda: now)
    for _ in range(200):
        now += 700
        answer = await buckets.admit(ask((Window(50, "tokens", 60), 3)))
        if isinstance(answer, Ticket):
            await buckets.correct(answer, [2])
    fields = await client.hgetall("fb:{wallet}:u:w:tokens/60")
    amounts = {name: int(value) for name, value in fields.items() if name.isdigit()}
    assert int(fields[b"t"]) == sum(amounts.values())
    assert len(amounts) <= 62
    await buckets.aclose()


async def test_without_a_clock_of_ours_the_clock_of_redis_counts(buckets: BucketsRedis, client: Redis) -> None:
    seconds, _ = await client.time()
    ticket = await buckets.admit(ask((WINDOWS[2], 1)))
    assert isinstance(ticket, Ticket)
    assert 0 <= ticket.now_ms - seconds * 1000 < 60_000
    assert ticket.places == (ticket.now_ms // 1000,)


async def test_every_key_belongs_to_farebox_shares_the_wallets_tag_and_expires(
    buckets: BucketsRedis, client: Redis
) -> None:
    ticket = await buckets.admit(ask(*((window, 1) for window in WINDOWS), idempotency="key"))
    assert isinstance(ticket, Ticket)
    await buckets.renew([ticket])
    lives = {_text(key): await client.pttl(key) for key in await client.keys()}
    assert len(lives) == len(WINDOWS) + 2
    assert all(key.startswith("fb:{wallet}:u:") for key in lives)
    longest = 3600_000 + 60_000
    bounds = {key: MARK_TTL_MS if ":i:" in key else SLOT_TTL_MS if key.endswith("slots") else longest for key in lives}
    assert all(0 < lives[key] <= bounds[key] for key in lives)


async def test_a_read_leaves_nothing_behind(buckets: BucketsRedis, client: Redis) -> None:
    await buckets.read("wallet", "u", WINDOWS)
    assert await client.keys() == []


async def test_an_idempotency_key_is_not_readable_in_redis(buckets: BucketsRedis, client: Redis) -> None:
    await buckets.admit(ask(idempotency="a secret order number " * 100))
    assert all(b"secret" not in key and len(key) < 100 for key in await client.keys())


async def test_forgotten_scripts_are_loaded_again(buckets: BucketsRedis, client: Redis) -> None:
    await buckets.admit(ask())
    await client.script_flush()
    answers = await asyncio.gather(*(buckets.admit(ask((WINDOWS[2], 1))) for _ in range(30)))
    assert sum(isinstance(answer, Ticket) for answer in answers) == WINDOWS[2].limit


async def test_a_call_ends_unheard_also_where_the_script_was_forgotten(buckets: BucketsRedis, client: Redis) -> None:
    ticket = _admitted(await buckets.admit(ask((WINDOWS[4], 5))))
    told: list[Exception] = []
    await client.script_flush()
    buckets.end(ticket, [2], told.append)
    await buckets.aclose()
    assert told == []
    assert await client.hget("fb:{wallet}:u:w:" + WINDOWS[4].name, "t") == b"2"


async def test_who_ends_a_call_unheard_is_told_why_it_could_not(redis_url: str) -> None:
    ticket, told = Ticket(ask(), (), (), 0), list[Exception]()
    away, busy = (
        BucketsRedis(connect("redis://127.0.0.1:1")),
        BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30)),
    )
    away.end(ticket, [], told.append)
    busy._runner._waiting_max = 0  # type: ignore[attr-defined] # of the runner for a single server
    busy.end(ticket, [], told.append)
    await away.aclose()
    await busy.aclose()
    assert [type(failure) for failure in told] == [BucketsBusy, BucketsUnavailable]


async def test_a_caller_who_leaves_while_asking_is_not_counted(buckets: BucketsRedis, client: Redis) -> None:
    await buckets.ping()
    for turns in range(6):
        leaving = asyncio.create_task(buckets.admit(ask((WINDOWS[4], 5), idempotency=f"key {turns}")))
        staying = asyncio.create_task(buckets.admit(ask((WINDOWS[4], 1))))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not leaving.cancel():
            await buckets.undo(_admitted(leaving.result()))  # whose answer was quicker
        assert isinstance(await staying, Ticket), "the one who stays does not suffer"
    await buckets.aclose()
    assert await client.hget("fb:{wallet}:u:w:" + WINDOWS[4].name, "t") == b"6"
    assert await client.zcard("fb:{wallet}:u:slots") == 6
    assert [key for key in await client.keys() if b":i:" in key] == []


async def test_a_redis_that_is_not_there_is_unavailable_for_every_verb() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    await _all_unavailable(BucketsRedis(connect(f"redis://127.0.0.1:{port}")))


async def test_a_redis_that_never_answers_is_unavailable_after_the_timeout() -> None:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    buckets = BucketsRedis(connect(f"redis://127.0.0.1:{port}", timeout=0.05))
    try:
        answers = await asyncio.gather(*(buckets.admit(ask()) for _ in range(300)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {BucketsUnavailable}
    finally:
        await buckets.aclose()
        for writer in held:
            writer.close()
        server.close()


async def test_a_redis_that_goes_and_comes_back_needs_no_hand(redis_url: str, client: Redis) -> None:
    buckets = BucketsRedis(connect(redis_url, connect_timeout=30, timeout=30))
    await buckets.ping()
    await client.client_kill_filter(skipme=True, _type="normal")
    with suppress(BucketsUnavailable):
        await buckets.admit(ask())  # whether the loss has been noticed by now is the kernel's affair
    assert isinstance(await buckets.admit(ask()), Ticket)
    await buckets.aclose()


@pytest.fixture
async def full(client: Redis) -> AsyncIterator[None]:
    before = await client.config_get("maxmemory")
    await client.config_set("maxmemory", 1)
    yield
    await client.config_set("maxmemory", str(before["maxmemory"]))


@pytest.mark.usefixtures("full")
async def test_a_redis_that_is_full_is_unavailable_and_so_says_its_ping(buckets: BucketsRedis) -> None:
    with pytest.raises(BucketsUnavailable, match="OutOfMemory"):
        await buckets.admit(ask((WINDOWS[0], 1)))
    with pytest.raises(BucketsUnavailable):
        await buckets.ping()


async def test_one_users_broken_key_does_not_hurt_the_others_of_the_trip(buckets: BucketsRedis, client: Redis) -> None:
    await client.set("fb:{wallet}:broken:slots", "not a sorted set")
    broken = Ask("wallet", "broken", "r")
    answers = await asyncio.gather(
        buckets.admit(ask()), buckets.admit(broken), buckets.admit(ask()), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Ticket, BucketsUnavailable, Ticket]


async def test_a_pool_that_is_exhausted_here_is_not_redis_being_away(redis_url: str) -> None:
    client = Redis.from_url(redis_url, max_connections=1)
    held: AbstractConnection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
    buckets = BucketsRedis(client)
    with pytest.raises(BucketsBusy) as caught:
        await buckets.admit(ask())
    assert isinstance(caught.value.__cause__, MaxConnectionsError)
    await client.connection_pool.release(held)
    await buckets.aclose()


def _admitted(answer: Ticket | Deny) -> Ticket:
    assert isinstance(answer, Ticket)
    return answer


def _text(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode()


async def _all_unavailable(buckets: BucketsRedis) -> None:
    ticket = Ticket(ask((WINDOWS[0], 1)), (0,), (1,), 0)
    verbs: list[Callable[[], object]] = [
        lambda: buckets.admit(ticket.ask),
        lambda: buckets.correct(ticket, [0]),
        lambda: buckets.undo(ticket),
        lambda: buckets.renew([ticket]),
        lambda: buckets.read("wallet", "u", WINDOWS),
        lambda: buckets.clear("wallet", "u", WINDOWS),
        buckets.ping,
    ]
    for verb in verbs:
        with pytest.raises(BucketsUnavailable):
            await verb()  # type: ignore[misc] # each verb has its own reply
    await buckets.aclose()
