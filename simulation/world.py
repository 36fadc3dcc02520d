"""One run: the replicas and what is around them, the calls and faults of a scenario, then peace, and a probe.

What it leaves for the verdict is facts: the bank's tables, the backend's record, what callers received, and notes of
what befell whom.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ledger.budget import Budget
from ledger.hold import State
from ledger.ids import uuid7
from ledger.journal import EXPENSE_PROMO
from ledger.store import BankUnavailable, CallRunning, CreditOrder, NotEnough, RefundTooLarge
from ledger.wallet import token_wallet_id
from policies.key_limits import KeyLimits
from policies.principal import Principal
from simulation.backend import Backend, Script
from simulation.bank import MemoryBank
from simulation.caller import Call, Caller, Line, Plan
from simulation.clock import BEGINS, virtual
from simulation.disk import Disk
from simulation.house import HORIZON_S, Common
from simulation.link import Weather
from simulation.loop import VirtualLoop, running
from simulation.redis import SharedBuckets
from simulation.replica import Replica, Surroundings
from simulation.scenario import HEAL_S, Event, Person, Scenario
from simulation.tables import EVER, Tables, WalletRow
from simulation.trace import Trace

T = TypeVar("T")

PROBE = -1
"""The number of the probe's person; its calls are numbered from ``PROBES`` on."""

PROBES = 10_000
_PROBE_EVERY_S = 0.5
_PROBE_TRIES = 40
GRACE_S, LOOK_S = 60.0, 0.5
_STILL_S = 8.0  # who stands still for longer may be taken for dead: the life of a hold, less what a round is late


class World:
    """One scenario, run by ``run_scenario``; afterwards, its facts."""

    def __init__(self, scenario: Scenario, common: Common) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop(Random(f"order:{scenario.seed}"))
        self.loop.now = self.begins = scenario.begins_s
        self.trace = Trace(self.loop)
        chance = Random(f"world:{scenario.seed}")
        self._chance = chance
        self.tables = Tables(self._bank_now)
        self.redis = SharedBuckets()
        self.disk = Disk()
        self.bank_weather, self.redis_weather = Weather(), Weather()
        self.scripts: dict[int, Script] = dict(scenario.scripts)
        self.backend = Backend(self.loop, chance, self.scripts, self.trace)
        self.principals: dict[str, Principal] = {}
        self.calls: list[Call] = []
        self.admitted: dict[str, tuple[str, float, bool]] = {}
        self.failed_growths: Counter[UUID] = Counter()
        self.done_late: set[UUID] = set()
        self.errors: list[str] = []
        self.forgot: list[float] = []
        self.healed = self.quiet_at = self.probed_at = self.slots_free_at = self.last_run_at = float("inf")
        self.locked_idle: dict[UUID, tuple[float, float]] = {}  # first and last seen so
        self.killed: dict[str, float] = {}
        self.stood_still: set[str] = set()
        self.stops: list[tuple[str, float, float]] = []  # of which process, from when until when
        self.late_slot_at = 0.0
        self.tables_begin = BEGINS
        surroundings = Surroundings(
            self.loop, chance, self.trace, common, self.tables, self.redis, self.backend, self.disk,
            self.bank_weather, self.redis_weather, self.principals.get, self,
        )  # fmt: skip
        self.replicas = [Replica(f"replica-{at}", surroundings) for at in range(scenario.replicas)]
        self.bank = MemoryBank(self.tables, owner="office")
        self._world = Context()

    def _bank_now(self) -> datetime:
        return datetime.fromtimestamp(BEGINS + self.loop.now, UTC)

    # What replicas tell of themselves -------------------------------------------------------------------------------

    def was_admitted(self, request_id: str, user: str, at_ms: int, local: bool) -> None:
        self.admitted[request_id] = (user, at_ms / 1000, local)

    def was_taken_back(self, request_id: str) -> None:
        self.admitted.pop(request_id, None)

    def growth_failed(self, request_id: UUID) -> None:
        self.failed_growths[request_id] += 1

    def was_done_late(self, op: str, args: tuple[Any, ...]) -> None:
        """The bank or Redis did what its asker had already given up."""
        if op == "open_holds":
            self.done_late.update(ask.request_id for ask in args[0])
        elif op == "admit":
            self.late_slot_at = self.loop.now

    # The run ------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Everything, to the end."""
        await self._people()
        for replica in self.replicas:
            replica.start()
        for plan in self.scenario.plans:
            self._at(plan.at_s, self._call, plan)
        for event in self.scenario.events:
            self._at(event.at_s, self._befall, event)
        await asyncio.sleep(HEAL_S)
        self._heal()
        await self._probe()
        await self._quiet()

    def _at(self, after_s: float, step: Callable[..., None], *args: Any) -> None:
        self.loop.call_at(self.begins + after_s, step, *args, context=self._world)

    async def _people(self) -> None:
        rich = Person(PROBE, "paid", 10**12)
        for person in (*self.scenario.people, rich):
            wallet_id, user_id = uuid7(), uuid7()
            with self.tables.transaction():
                self.tables.add(self.tables.wallets, wallet_id, WalletRow(wallet_id, due_at=EVER))
            budget = KeyLimits(budget=Budget(person.budget)).owned_by(uuid7()) if person.budget else None
            self.principals[str(person.number)] = Principal(
                user_id, wallet_id, "sim", str(person.number), "", "", "user", person.tier, "active", "en",
                limits=budget,
            )  # fmt: skip
            await self._fund(person, wallet_id)

    async def _fund(self, person: Person, wallet_id: UUID) -> None:
        if person.paid:
            await self.bank.credit(wallet_id, person.paid, "paid", source="first", funding="cash:sim")
        if person.gift:
            ends = datetime.fromtimestamp(self._bank_now().timestamp() + person.gift_s, UTC)
            await self.bank.credit(
                wallet_id, person.gift, "promo", source="gift", funding=EXPENSE_PROMO, expires_at=ends
            )

    def _call(self, plan: Plan) -> None:
        ready = [replica for replica in self.replicas if replica.accepts]
        if not ready:
            return
        replica = self._chance.choice(ready)
        call = Call(plan, replica.actor.name, self.loop.now)
        self.calls.append(call)
        self.trace.tell("call", plan.number, replica.actor)
        line = Line(self.loop, call, str(plan.user))
        replica.serve(line)
        caller = Caller(self.loop, plan)
        self.loop.spawn(caller.actor, caller.attend(line))

    async def _probe(self) -> None:
        """A good call succeeds soon after the last fault."""
        for number in range(PROBES, PROBES + _PROBE_TRIES):
            self.scripts[number] = Script(0.05, ((0.05, 10),), "end", "well", True)
            self._call(Plan(number, PROBE, 0.0, "small", 1, True))
            call = self.calls[-1] if self.calls else None
            await asyncio.sleep(_PROBE_EVERY_S)
            if call is not None and call.plan.number == number and call.answered:
                self.probed_at = call.ended_at or self.loop.now
                return

    async def _quiet(self) -> None:
        """Wait until nothing runs, is held or waits any more; at most until everything must be."""
        while self.loop.now < self.healed + HORIZON_S + GRACE_S:
            self._look()
            if self._is_quiet():
                self.quiet_at = min(self.quiet_at, self.loop.now)
                if self.slots_free_at < float("inf"):
                    return
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        now = self.loop.now
        if any(replica.pumps for replica in self.replicas):
            self.last_run_at, self.slots_free_at = now, float("inf")
        elif not self.redis.open_slots(self.redis.now_ms):
            self.slots_free_at = min(self.slots_free_at, now)
        running = {pump.story.request_id for replica in self.replicas for pump in replica.pumps}
        for hold in self.tables.holds.values():
            if hold.state in (State.OPEN, State.QUARANTINE) and hold.amount > hold.spent and hold.id not in running:
                first, _ = self.locked_idle.get(hold.id, (now, now))
                self.locked_idle[hold.id] = first, now

    def _is_quiet(self) -> bool:
        return not (
            any(replica.pumps or replica.unposted or not replica.up for replica in self.replicas)
            or any(wallet.held for wallet in self.tables.wallets.values())
            or any(hold.state in (State.OPEN, State.QUARANTINE) for hold in self.tables.holds.values())
            or self.disk.records
        )

    # What befalls it ----------------------------------------------------------------------------------------------

    def _befall(self, event: Event) -> None:
        self.trace.tell("event", event.kind, event.which, round(event.for_s, 2), event.name)
        kind, replica = event.kind, self.replicas[event.which % len(self.replicas)]
        if kind in ("kill", "stop", "drain"):
            self._strike(kind, replica, event.for_s)
        elif kind == "clock":
            replica.actor.wall_offset_s = event.for_s
        elif kind == "flush":
            self.redis.flush()
            self.forgot.append(self.loop.now)
        elif kind == "rollback":
            copy = self.redis.copy()
            self._at(self.loop.now - self.begins + event.for_s, self._roll_back, copy)
        elif kind == "rows locked":
            self._lock_rows(event)
        elif kind.startswith(("bank", "redis")):
            self._storm(event)
        else:
            self.loop.create_task(self._order(event))

    def _strike(self, kind: str, replica: Replica, for_s: float) -> None:
        if not replica.up or replica.actor.frozen:
            return
        if kind == "kill":
            self.killed[replica.actor.name] = self.loop.now
            replica.kill()
            self._at(self.loop.now - self.begins + 0.5, replica.start)
        elif kind == "drain":
            replica.drain(for_s)
        else:
            if for_s > _STILL_S:
                self.stood_still.add(replica.actor.name)
            self.stops.append((replica.actor.name, self.loop.now, self.loop.now + for_s))
            replica.freeze()
            self._at(self.loop.now - self.begins + for_s, self._wake, replica, replica.actor)

    def _wake(self, replica: Replica, actor: Any) -> None:
        if replica.actor is actor and actor.frozen and not actor.dead:
            replica.wake()

    def _roll_back(self, copy: Any) -> None:
        self.trace.tell("rolled back")
        self.redis.roll_back(copy)
        self.forgot.append(self.loop.now)

    def _storm(self, event: Event) -> None:
        place, _, how = event.kind.partition(" ")
        weather = self.bank_weather if place == "bank" else self.redis_weather
        weather.bad.append((self.loop.now, self.loop.now + event.for_s))
        much = event.name == "much"
        if how == "away":
            weather.away = True
        elif how == "lossy":
            weather.lost = 0.3 if much else 0.05
        else:
            weather.slow_s = 8.0 if much else 0.5
        self._at(self.loop.now - self.begins + event.for_s, self._clears, weather)

    def _clears(self, weather: Weather) -> None:
        # Storms that overlap end together, at the end of the last.
        if all(until <= self.loop.now + 1e-9 for _, until in weather.bad):
            weather.fine()

    def _lock_rows(self, event: Event) -> None:
        principal = self.principals[str(event.which)]
        wallet_id = principal.wallet_id
        self.bank_weather.bad.append((self.loop.now, self.loop.now + event.for_s))
        self.tables.locked.add(wallet_id)
        self._at(self.loop.now - self.begins + event.for_s, self.tables.locked.discard, wallet_id)

    async def _order(self, event: Event) -> None:
        try:
            await self._ordered(event)
        except (NotEnough, RefundTooLarge, CallRunning, LookupError, BankUnavailable) as no:
            self.trace.tell("order refused", event.kind, type(no).__name__)

    async def _ordered(self, event: Event) -> None:
        if event.kind == "refund":
            found = [call for call in self.calls if call.plan.number == event.which and call.request_id]
            if found:
                source = f"order:{event.at_s}"
                await self.bank.refund(UUID(found[0].request_id), event.amount or None, reason="", source=source)
            return
        who = str(event.which)
        principal = self.principals[who]
        if event.kind == "tier":
            self.principals[who] = msgspec.structs.replace(principal, tier=event.name)
            for wallet_id in (principal.wallet_id, token_wallet_id(principal.wallet_id)):
                if wallet_id in self.tables.wallets:
                    self.tables.wallets[wallet_id].due_at = EVER
        elif event.amount:
            kind = "payment" if event.kind == "top-up" else "deduct"
            order = CreditOrder(principal.wallet_id, kind, event.amount, "", f"order:{event.at_s}")  # type: ignore[arg-type]
            await self.bank.adjust(order)

    def _heal(self) -> None:
        self.trace.tell("healed")
        self.healed = self.loop.now
        self.bank_weather.fine()
        self.redis_weather.fine()
        self.tables.locked.clear()
        for replica in self.replicas:
            if replica.actor.frozen and not replica.actor.dead:
                replica.wake()


def run_scenario(scenario: Scenario, common: Common, judge: Callable[[World], T]) -> T:
    """Run it to its end; what ``judge`` says of it."""
    world = World(scenario, common)
    errors: list[str] = []
    with _errors_to(errors), virtual(world.loop, Random(f"bytes:{scenario.seed}")), running(world.loop):
        world.loop.run_until_complete(world.live())
        world.errors = errors + [repr(each.get("exception") or each["message"]) for each in world.loop.failures]
        # Within the block: at its end the coroutines of dead processes are closed, and what those do is no fact.
        return judge(world)


class _Errors(logging.Handler):
    """Keeps what is logged as an error: in a run, nothing may be."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        why = record.exc_info[1] if record.exc_info else getattr(record, "reason", "")
        self._errors.append(f"{record.getMessage()}: {why!r}")


@contextmanager
def _errors_to(errors: list[str]) -> Iterator[None]:
    log, handler = logging.getLogger("farebox"), _Errors(errors)
    level, propagates = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
