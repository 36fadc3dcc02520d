"""One process of the gateway: its real parts, put together as ``gateway/app.py`` does, between the twins of the world.

It is started, frozen, killed and drained like a process; its spool file survives it on the disk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID

from gateway.admission import Admitter
from gateway.app import Gateway, Parts, _sign_out
from gateway.books import Books
from gateway.errors import Refusal
from gateway.forward import Forwarder
from gateway.identity import Identity
from gateway.proxy import Gate, Proxy
from gateway.pulse import Pulse
from gateway.pump import House, Pump
from gateway.surfaces import SURFACES
from gateway.upload import Uploads
from ledger.poster import Poster
from ledger.store import BankUnavailable, Beat, BeatReply
from ledger.store_sql import PostgresBank
from ledger.sweep import Sweeper
from ledger.teller import Teller
from ledger.turns import Turns
from policies.buckets import Ask, Ticket
from policies.buckets_fallback import BucketsWithFallback
from policies.buckets_memory import BucketsMemory
from policies.decision import Deny
from policies.estimate import RunningP90, RunningRatio
from policies.principal import Principal
from simulation.backend import Backend, Connections
from simulation.bank import MemoryBank
from simulation.caller import Line
from simulation.disk import Disk, MemorySpool
from simulation.house import (
    BANK_TIMEOUT_S,
    BEAT_S,
    BEAT_TOKENS,
    CATALOG,
    HORIZON_S,
    LIMITS,
    REDIS_TIMEOUT_S,
    TIMEOUTS,
    TTL_S,
    Common,
)
from simulation.link import RemoteBank, RemoteBuckets, Weather, Wire, bank_away, redis_away
from simulation.loop import Actor, VirtualLoop
from simulation.redis import SharedBuckets
from simulation.tables import Tables
from simulation.trace import Trace

T = TypeVar("T")
_CHAT = next(surface for surface in SURFACES if surface.route == "chat.completions")
_RESTART_S = 0.5


class Witness(Protocol):
    """Who takes notes of what happens inside a replica and shows nowhere else."""

    def was_admitted(self, request_id: str, user: str, at_ms: int, local: bool) -> None: ...

    def was_taken_back(self, request_id: str) -> None: ...

    def growth_failed(self, request_id: UUID) -> None: ...

    def was_done_late(self, op: str, args: tuple[Any, ...]) -> None: ...


@dataclass
class Surroundings:
    """What replicas share, and what of it a run watches."""

    loop: VirtualLoop
    chance: random.Random
    trace: Trace
    common: Common
    tables: Tables
    redis: SharedBuckets
    backend: Backend
    disk: Disk
    bank_weather: Weather
    redis_weather: Weather
    principal: Callable[[str], Principal | None]
    witness: Witness


class Ordered(Generic[T]):
    """A set that is gone through in the order in which it was filled: the order of a real one is chance of another
    kind, which no seed repeats."""

    def __init__(self) -> None:
        self._items: dict[T, None] = {}

    def add(self, item: T) -> None:
        self._items[item] = None

    def discard(self, item: T) -> None:
        self._items.pop(item, None)

    def clear(self) -> None:
        self._items.clear()

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._items))

    def __len__(self) -> int:
        return len(self._items)


class _SeenTeller(Teller):
    """The teller itself; that a hold could not grow, the bank being away, is noted."""

    witness: Witness

    async def beat(self, beat: Beat) -> BeatReply:
        try:
            return await super().beat(beat)
        except BankUnavailable:
            self.witness.growth_failed(beat.request_id)
            raise


class _SeenBuckets(BucketsWithFallback):
    """The limits themselves; who is admitted where is noted."""

    witness: Witness

    async def admit(self, ask: Ask) -> Ticket | Deny:
        answer = await super().admit(ask)
        if isinstance(answer, Ticket):
            self.witness.was_admitted(ask.request_id, ask.user, answer.now_ms, answer.local)
        return answer

    async def undo(self, ticket: Ticket) -> None:
        self.witness.was_taken_back(ticket.ask.request_id)
        await super().undo(ticket)


class _Faces:
    """In the place of keys and accounts: a bearer is a person's number."""

    def __init__(self, principal: Callable[[str], Principal | None]) -> None:
        self._principal = principal

    async def identify(self, headers: Any, *_: str) -> Principal:
        bearer = next(value for name, value in headers if name == b"authorization")
        found = self._principal(bearer.decode().removeprefix("Bearer "))
        if found is None:
            raise Refusal.of("invalid_api_key", "This key is not known here.")
        return found


class Replica:
    """``name`` stays over restarts; each process of it has its own actor and owner name."""

    def __init__(self, name: str, world: Surroundings) -> None:
        self.name = name
        self._world = world
        self._lives = 0
        self.actor = Actor(name)
        self.up = False
        self.ends: list[float] = []
        self.poster: Poster | None = None
        self.pulse: Pulse | None = None
        self._proxy: Proxy | None = None
        self._gate: Gate | None = None
        self._gateway: Gateway | None = None
        self._connections: Connections | None = None
        self._lines: list[Line] = []
        self._closing: list[Callable[[], Any]] = []

    # The life of a process ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """A process of this name begins; while the bank is away it tries again."""
        self._lives += 1
        offset = self.actor.wall_offset_s
        self.actor = Actor(f"{self.name}.{self._lives}")
        self.actor.wall_offset_s = offset
        self._world.loop.spawn(self.actor, self._live())

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, and its connections break."""
        self._world.trace.tell("kill", self.actor)
        self._world.loop.kill(self.actor)
        self._gone()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._world.trace.tell("freeze", self.actor)
        self._world.loop.freeze(self.actor)

    def wake(self) -> None:
        """SIGCONT."""
        self._world.trace.tell("wake", self.actor)
        self._world.loop.wake(self.actor)

    def drain(self, timeout_s: float) -> asyncio.Task[None]:
        """SIGTERM: the process ends in good order, and is started again."""
        self._world.trace.tell("drain", self.actor)
        return self._world.loop.spawn(self.actor, self._drained(timeout_s))

    @property
    def accepts(self) -> bool:
        """Whether a load balancer would send it a call."""
        return self.up and not self.actor.frozen and not (self._gate is not None and self._gate.draining)

    @property
    def pumps(self) -> tuple[Pump, ...]:
        """Its calls under way."""
        return tuple(self.pulse.pumps) if self.pulse is not None and self.up else ()

    @property
    def unposted(self) -> int:
        return self.poster.waiting if self.poster is not None and self.up else 0

    def serve(self, line: Line) -> None:
        """A connection is accepted."""
        assert self._proxy is not None
        self._lines.append(line)
        self._world.loop.spawn(self.actor, self._served(line, self._proxy))

    async def _served(self, line: Line, proxy: Proxy) -> None:
        await proxy(line.scope, line.receive, line.send)
        # What a server does with a connection whose handler has returned: it is over.
        line.hang_up()

    async def _drained(self, timeout_s: float) -> None:
        gateway, actor = self._gateway, self.actor
        if gateway is None:
            return
        await gateway.drain(timeout_s)
        for close in reversed(self._closing):
            await close()
        self._world.trace.tell("exit", actor)
        self._world.loop.call_soon(self._exited, actor, context=Context())

    def _exited(self, actor: Actor) -> None:
        if actor is self.actor and not actor.dead:
            self._world.loop.kill(actor)
            self._gone()
            self._world.loop.call_later(_RESTART_S, self.start, context=Context())

    def _gone(self) -> None:
        self.up = False
        self.ends.append(self._world.loop.now)
        if self._connections is not None:
            self._connections.die()
        for line in self._lines:
            if not line.over.done():
                line.call.broken_at = self._world.loop.now
                line.hang_up()
        self._lines.clear()

    # Its parts ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """As ``gateway.app.open_gateway``, with the twins at the ends of the wires."""
        world, owner = self._world, self.actor.name
        memory = MemoryBank(world.tables, owner=owner, ttl_s=TTL_S, horizon_s=HORIZON_S)
        wire = self._wire("bank", world.bank_weather, bank_away, BANK_TIMEOUT_S)
        wire.on_late = world.witness.was_done_late
        bank = cast(PostgresBank, RemoteBank(memory, wire))
        sweeper = await self._opened(bank)
        turns = Turns()
        poster = Poster(bank, MemorySpool(world.disk, owner), turns=turns)
        poster.start()
        teller = _SeenTeller(bank, regret=poster.submit, batch=64, waiting=4096, turns=turns)
        teller.witness = world.witness
        counted = self._wire("redis", world.redis_weather, redis_away, REDIS_TIMEOUT_S)
        counted.on_late = world.witness.was_done_late
        redis = RemoteBuckets(world.redis, counted)
        buckets = _SeenBuckets(redis, BucketsMemory(), "local", lambda: sweeper.live_replicas)
        buckets.witness = world.witness
        output_seen, input_seen = RunningP90(), RunningRatio()
        admitter = Admitter(
            catalog=lambda: CATALOG,
            buckets=buckets,
            teller=teller,
            bank=bank,
            counting=world.common.counting,
            output_seen=output_seen,
            input_seen=input_seen,
            default_tier="paid",
            upgrade_url="",
        )
        pulse = Pulse(
            bank,
            buckets,
            beat_s=BEAT_S,
            send_timeout_s=LIMITS.send_timeout_s,
            drain_stream_s=LIMITS.drain_stream_s,
        )
        pulse.pumps, pulse._early = cast(Any, Ordered()), cast(Any, Ordered())
        pulse.start()
        self._connections = Connections(world.backend)
        common = world.common
        books = Books(poster, buckets, common.metrics, common.log, common.tally, output_seen, input_seen)
        forwarder = Forwarder(self._connections, lambda: CATALOG, TIMEOUTS, LIMITS)
        house = House(admitter, forwarder, common.counting, teller, books, pulse, BEAT_TOKENS)
        gate = self._gate = Gate(LIMITS.streams_max, lambda: len(pulse.pumps))
        faces = cast(Identity, _Faces(world.principal))
        # Chats come in bodies: no upload, so nothing that takes one.
        self._proxy = Proxy(_CHAT, house, faces, gate, lambda: CATALOG, LIMITS, cast(Uploads, None))
        self._gateway = Gateway(self._proxy, self._proxy, common.metrics, gate, pulse, poster, cast(Parts, None))
        self._closing = [partial(_sign_out, bank), sweeper.stop, poster.stop, buckets.aclose, pulse.stop]
        self.poster, self.pulse = poster, pulse
        self.up = True
        world.trace.tell("up")

    async def _opened(self, bank: PostgresBank) -> Sweeper:
        while True:
            try:
                await bank.make_months()
                break
            except BankUnavailable:
                await asyncio.sleep(_RESTART_S)
        sweeper = Sweeper(bank)
        await sweeper.round()
        sweeper.start()
        return sweeper

    def _wire(self, place: str, weather: Weather, failure: Callable[[str], Exception], timeout_s: float) -> Wire:
        world = self._world
        return Wire(place, world.loop, world.chance, weather, world.trace, failure, timeout_s)
