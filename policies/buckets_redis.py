"""Limits counted in Redis, Valkey or a Cluster, shared by all replicas. The scripts beside this file decide.

All keys of a wallet carry its hash tag, so that one script may touch them on a Cluster; the user's come behind it.
Nothing here is worth money: if Redis forgets, callers get their limits back early and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, NoScriptError, RedisClusterException, RedisError

from policies import concurrency, rate
from policies.buckets import (
    MARK_TTL_MS,
    Ask,
    BucketsBusy,
    BucketsUnavailable,
    Failed,
    Look,
    Reading,
    Ticket,
    duplicate_denial,
    level_of,
    looked,
    unheard,
    window_denial,
)
from policies.concurrency import RETRY_MS, SLOT_TTL_MS
from policies.decision import Deny
from policies.lanes import Lane
from policies.rate import Counter
from policies.redis_command import Form, Script, packed
from policies.redis_runner import Abandoned, ClusterRunner, PipelineRunner, Runner, Told
from policies.tier import Window

Client = Redis | RedisCluster

_SLOTS: dict[Lane, str] = {"own": ":slots", "tasks": ":slots:tasks", "embeddings": ":slots:embeddings"}
_FORMS_MAX = 1024


def connect(
    url: str, cluster: bool = False, connect_timeout: float = 0.5, timeout: float = 1.0
) -> Redis | RedisCluster:
    """A client for `url` (redis://, rediss:// or unix://); opens nothing yet. Timeouts are seconds.

    It never repeats a command: one whose reply was lost may have been counted.
    """
    bounds: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    # A slot that has moved is looked up alone: at every fifth such answer redis-py would close all its connections,
    # under the commands of everybody else.
    return RedisCluster.from_url(url, **bounds, reinitialize_steps=0) if cluster else Redis.from_url(url, **bounds)


class BucketsRedis:
    """`Buckets` in Redis, over a client made by `connect`; owns the client and closes it.

    `clock_ms` takes the place of the clock of Redis, for simulated time.
    """

    def __init__(self, client: Client, clock_ms: Callable[[], int] | None = None) -> None:
        self._runner: Runner = ClusterRunner(client) if isinstance(client, RedisCluster) else PipelineRunner(client)
        self._clock_ms = clock_ms
        self._admit, self._correct = Script("admit"), Script("correct")
        self._renew, self._read = Script("renew"), Script("read")
        self._undoing: set[asyncio.Task[None]] = set()

    async def admit(self, ask: Ask) -> Ticket | Deny:
        name, marks = _name(ask.wallet, ask.user), _marks(ask) if ask.idempotency else ()
        windows, costs = zip(*ask.rules, strict=True) if ask.rules else ((), ())
        form = _admission(self._admit.sha, len(name), ask.lane, windows, ask.concurrency, len(marks))
        command = form.filled(name, marks, (self._now(), ask.request_id, *costs))
        return _answer(ask, await self._run(self._admit, command, partial(self._take_back, ask)))

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        await self._run(self._correct, self._correction_of(ticket, actual, forget))

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        command = self._correction_of(ticket, actual, forget)

        def told(reply: Any, *, again: bool = True) -> None:
            if isinstance(reply, NoScriptError) and again:
                self._tell(self._correct.by_text(command), partial(told, again=False), failed)
            elif isinstance(reply, Exception):
                failed(_meant(reply) if isinstance(reply, _REDIS) else reply)

        self._tell(command, told, failed)

    async def undo(self, ticket: Ticket) -> None:
        await self.correct(ticket, [0] * len(ticket.ask.rules), forget=True)

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        calls: dict[str, list[str]] = {}
        for ticket in tickets:
            ask = ticket.ask
            slots = _keys(ask.wallet, ask.user, (), ask.lane)[0]
            calls.setdefault(slots, []).append(ask.request_id)
        renewals = (self._renew.asked([key], [self._now(), SLOT_TTL_MS, *ids]) for key, ids in calls.items())
        await _all(self._run(self._renew, command) for command in renewals)

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        now_ms, open_calls, *hashes = await self._stored(_keys(wallet, user, windows))
        rows = zip(windows, hashes, strict=True)
        levels = (level_of(_counter(window, fields, now_ms), window, now_ms) for window, fields in rows)
        return Reading(tuple(levels), open_calls)

    async def peek(self, ask: Ask) -> Look:
        windows = [window for window, _ in ask.rules]
        now_ms, open_calls, *hashes = await self._stored(_keys(ask.wallet, ask.user, windows, ask.lane))
        counters = [_counter(window, fields, now_ms) for window, fields in zip(windows, hashes, strict=True)]
        return looked(ask, counters, open_calls, now_ms)

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        if windows:
            await self._command(packed("UNLINK", *_keys(wallet, user, windows)[1:]))

    def leave(self, request_id: str) -> None:
        """Nobody waits here."""

    async def ping(self) -> None:
        # A write: a Redis that is full, or only a replica, answers reads and yet cannot count.
        await self._command(packed("SET", "fb:probe", "1", "PX", 1000))

    async def aclose(self) -> None:
        if self._undoing:
            await asyncio.wait(self._undoing)
        await self._runner.aclose()

    def _now(self) -> int | str:
        return self._clock_ms() if self._clock_ms else ""

    async def _stored(self, keys: Sequence[str]) -> list[Any]:
        reply: list[Any] = await self._run(self._read, self._read.asked(keys, [self._now()]))
        return reply

    def _correction_of(self, ticket: Ticket, actual: Sequence[int], forget: bool) -> bytes:
        """The command that changes the windows in which the call turned out to cost something else."""
        ask, windows = ticket.ask, list[Window]()
        changes: list[str | int] = [ask.request_id]
        for (window, cost), at, now_cost in zip(ask.rules, ticket.places, actual, strict=True):
            if now_cost != cost:
                windows.append(window)
                changes += (at, now_cost - cost)
        name, marks = _name(ask.wallet, ask.user), _marks(ask) if forget and ask.idempotency else ()
        form = _correction(self._correct.sha, len(name), ask.lane, tuple(windows), len(marks))
        return form.filled(name, marks, tuple(changes))

    def _tell(self, command: bytes, told: Told, failed: Failed) -> None:
        try:
            self._runner.tell(command, told)
        except BucketsBusy as busy:
            failed(busy)

    def _take_back(self, ask: Ask, reply: Any) -> None:
        """The caller left while the question was on its way: nobody else will give back what was counted."""
        answer = _answer(ask, reply)
        if isinstance(answer, Ticket):
            task = asyncio.create_task(self._undo_quietly(answer))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)

    async def _undo_quietly(self, ticket: Ticket) -> None:
        try:
            await self.undo(ticket)
        except (BucketsUnavailable, BucketsBusy):
            return  # the slot frees itself; the windows keep the cost, which errs on the strict side

    async def _run(self, script: Script, command: bytes, abandoned: Abandoned | None = None) -> Any:
        try:
            return await self._runner.run(command, abandoned)
        except NoScriptError:
            return await self._command(script.by_text(command), abandoned)
        except _REDIS as error:
            raise _meant(error) from error

    async def _command(self, command: bytes, abandoned: Abandoned | None = None) -> Any:
        try:
            return await self._runner.run(command, abandoned)
        except _REDIS as error:
            raise _meant(error) from error


_REDIS = (RedisError, RedisClusterException, OSError)


def _meant(error: Exception) -> BucketsUnavailable | BucketsBusy:
    """What an error of redis-py says to those who count."""
    if isinstance(error, MaxConnectionsError):
        # redis-py calls it a ConnectionError, but it is this process that has run out, not Redis that is away.
        return BucketsBusy(str(error))
    return BucketsUnavailable(f"{type(error).__name__}: {error}")


async def _all(runs: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Runs all of them, then raises the first failure: one broken trip must not stop the others."""
    for result in await asyncio.gather(*runs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _answer(ask: Ask, reply: list[Any]) -> Ticket | Deny:
    verdict = reply[0]
    if verdict == 1:
        return Ticket(ask, tuple(reply[3::2]), tuple(reply[2::2]), reply[1])
    if verdict == 2:
        return duplicate_denial(reply[1].decode() if isinstance(reply[1], bytes) else reply[1])
    rule, used, wait_ms = reply[1:]
    if rule == 0:
        return concurrency.denial(used, ask.concurrency, ask.lane)
    window, cost = ask.rules[rule - 1]
    return window_denial(window, cost, used, None if wait_ms < 0 else wait_ms)


def _counter(window: Window, fields: list[bytes], now_ms: int) -> Counter:
    amounts = zip(fields[::2], fields[1::2], strict=True)
    buckets = sorted((int(name), int(amount)) for name, amount in amounts if name.isdigit())
    return rate.pruned(Counter(tuple(buckets)), window.seconds, now_ms)


@lru_cache(maxsize=_FORMS_MAX)
def _admission(sha: str, size: int, lane: Lane, windows: tuple[Window, ...], concurrency: int, marks: int) -> Form:
    """The form of `admit.lua` for calls that count in these windows."""
    bounds = [bound for window in windows for bound in (window.limit, window.seconds)]
    fixed = (SLOT_TTL_MS, RETRY_MS, MARK_TTL_MS, concurrency, *bounds)
    return Form(sha, size, _suffixes(windows, lane), marks, fixed, 2 + len(windows))


@lru_cache(maxsize=_FORMS_MAX)
def _correction(sha: str, size: int, lane: Lane, windows: tuple[Window, ...], marks: int) -> Form:
    """The form of `correct.lua` for changes in these windows."""
    return Form(sha, size, _suffixes(windows, lane), marks, (), 1 + 2 * len(windows))


def _keys(wallet: str, user: str, windows: Sequence[Window], lane: Lane = "own") -> list[str]:
    name = _name(wallet, user).decode()
    return [name + suffix for suffix in _suffixes(windows, lane)]


def _name(wallet: str, user: str) -> bytes:
    """What all keys of a user begin with."""
    return f"fb:{{{wallet}}}:{user}".encode()


def _suffixes(windows: Sequence[Window], lane: Lane) -> list[str]:
    """How the keys of the slots and of each counter go on."""
    return [_SLOTS[lane], *[f":w:{window.name}" for window in windows]]


def _marks(ask: Ask) -> tuple[str, ...]:
    """The key of the idempotency mark."""
    # The caller chose the key: its digest bounds the length and hides what it says.
    digest = hashlib.blake2b(ask.idempotency.encode(), digest_size=16).hexdigest()
    return (f"fb:{{{ask.wallet}}}:{ask.user}:i:{digest}",)
