"""Limits counted in one place, and while that is away in this process, by its share; or nobody admitted at all.

A place that fails is not asked again until a probe, once a second, has found it well: calls do not wait for timeouts.
What was counted in one place is not carried to the other: a window in which the place changes may hold both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from msgspec.structs import replace

from policies.buckets import (
    Ask,
    Buckets,
    BucketsBusy,
    BucketsUnavailable,
    Failed,
    Look,
    Reading,
    Ticket,
    unheard,
)
from policies.decision import Deny
from policies.tier import Window

RETRY_MS = 1_000
"""What to tell a caller who is refused for our own trouble: about one probe."""

OnFailure = Literal["local", "refuse"]


class BucketsWithFallback:
    """`Buckets` that answer also while `primary` is away.

    `on_failure` "local" lets `local` count with every limit divided by `live_replicas()`; "refuse" denies every call
    (limiter_unavailable). A call that has been admitted always ends without an error: a correction that cannot be
    delivered leaves the estimate standing, which errs on the strict side, and `lost` is told.
    """

    def __init__(
        self,
        primary: Buckets,
        local: Buckets,
        on_failure: OnFailure,
        live_replicas: Callable[[], int],
        lost: Callable[[], object] = lambda: None,
        probe_every_s: float = 1.0,
    ) -> None:
        self._primary = primary
        self._local = local
        self._on_failure = on_failure
        self._live_replicas = live_replicas
        self._probe_every_s = probe_every_s
        self._probing: asyncio.Task[None] | None = None
        self._lost = lost

    @property
    def degraded(self) -> bool:
        """Whether `primary` is away."""
        return self._probing is not None

    async def admit(self, ask: Ask) -> Ticket | Deny:
        if self._probing is None:
            try:
                return await self._primary.admit(ask)
            except BucketsUnavailable:
                self._fall()
            except BucketsBusy:
                return _unavailable()
        return _unavailable() if self._on_failure == "refuse" else await self._admit_locally(ask)

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        if ticket.local:
            await self._local.correct(ticket, actual, forget=forget)
        elif not await self._delivered(lambda: self._primary.correct(ticket, actual, forget=forget)):
            self._lost()

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        if ticket.local:
            self._local.end(ticket, actual, failed, forget=forget)
        elif self._probing is None:
            self._primary.end(ticket, actual, self._undelivered, forget=forget)
        else:
            self._lost()

    async def undo(self, ticket: Ticket) -> None:
        if ticket.local:
            await self._local.undo(ticket)
        elif not await self._delivered(lambda: self._primary.undo(ticket)):
            self._lost()

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        running = list(tickets)
        await self._local.renew(ticket for ticket in running if ticket.local)
        await self._delivered(lambda: self._primary.renew(ticket for ticket in running if not ticket.local))

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        if self.degraded and self._on_failure == "local":
            return await self._local.read(wallet, user, windows)
        return await self._primary.read(wallet, user, windows)

    async def peek(self, ask: Ask) -> Look:
        if not self.degraded:
            try:
                return await self._primary.peek(ask)
            except BucketsUnavailable:
                self._fall()
        if self._on_failure == "refuse":
            raise BucketsUnavailable("calls are refused until the place is back")
        look = await self._local.peek(shared(ask, max(1, self._live_replicas())))
        return replace(look, deny=_for_now(look.deny, ask)) if look.deny else look

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        """Here and there; raises if there is away, since those windows were not emptied."""
        await self._local.clear(wallet, user, windows)
        await self._primary.clear(wallet, user, windows)

    def leave(self, request_id: str) -> None:
        """Nobody waits here."""

    async def ping(self) -> None:
        await self._primary.ping()

    async def aclose(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._primary.aclose()
        await self._local.aclose()

    def _undelivered(self, failure: Exception) -> None:
        self._lost()
        if isinstance(failure, BucketsUnavailable):
            self._fall()

    def _fall(self) -> None:
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        try:
            while not await self._is_back():
                pass
        finally:
            self._probing = None

    async def _is_back(self) -> bool:
        await asyncio.sleep(self._probe_every_s)
        try:
            await self._primary.ping()
        except (BucketsUnavailable, BucketsBusy):
            return False
        return True

    async def _delivered(self, send: Callable[[], Awaitable[None]]) -> bool:
        if self.degraded:
            return False
        try:
            await send()
        except BucketsUnavailable:
            self._fall()
            return False
        except BucketsBusy:
            return False
        return True

    async def _admit_locally(self, ask: Ask) -> Ticket | Deny:
        answer = await self._local.admit(shared(ask, max(1, self._live_replicas())))
        return replace(answer, local=True) if isinstance(answer, Ticket) else _for_now(answer, ask)


def shared(ask: Ask, replicas: int) -> Ask:
    """The ask with this replica's share of every limit; where there is something to share, at least 1."""
    rules = tuple((replace(window, limit=_share(window.limit, replicas)), cost) for window, cost in ask.rules)
    return replace(ask, concurrency=_share(ask.concurrency, replicas), rules=rules)


def _share(limit: int, replicas: int) -> int:
    return max(limit // replicas, min(limit, 1))


def _for_now(denial: Deny, ask: Ask) -> Deny:
    """A cost that can never fit into the share may fit into the whole limit: then waiting helps after all."""
    whole = next((window.limit for window, _ in ask.rules if window.name == denial.limit), 0)
    return denial if denial.retry_after_ms or denial.needed > whole else replace(denial, retry_after_ms=RETRY_MS)


def _unavailable() -> Deny:
    return Deny("limiter_unavailable", retry_after_ms=RETRY_MS)
