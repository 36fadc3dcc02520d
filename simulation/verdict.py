"""What a run has shown: safety and liveness apart, each figure beside its bound.

Three words are compared on every call: what the backend recorded that it sent, what the caller received, what the
ledger charged. A figure is a distance: 0 is what is promised, unless its bound says what may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from ledger.hold import Outcome, Rev
from ledger.price import PPM, TOKEN_PRICE, charge_amount
from ledger.usage import Usage
from simulation import invariants
from simulation.backend import BUFFER_BYTES, LETTERS, Sent
from simulation.caller import Call
from simulation.house import BANK_TIMEOUT_S, BEAT_S, BEAT_TOKENS, HORIZON_S, PRICES, TTL_S, WINDOW_LIMIT, WINDOW_S
from simulation.tables import ChargeRow, HoldRow
from simulation.world import GRACE_S, LOOK_S, World

_BY_VERSION = {price.version: price for price in PRICES.values()}
_ESTIMATE_BYTES = 3  # to a token, in a checkpoint: the meter's upper estimate
_TICK_S = 0.5  # what a beat may be late, and its way to the bank
_CALLER_S = 60.0
_MANY = 100  # tokens: of fewer, rounding up is a large part
_PROBE_S, _UNLOCK_S = 10.0, 12.0


@dataclass
class Figure:
    """The worst of one kind, and what it may be; ``worst`` is reached by the run ``seed``."""

    says: str
    unit: str
    bound: str
    worst: float = 0.0
    seed: int = -1


FIGURES: dict[str, tuple[str, str, str]] = {
    "overspend": ("spent beyond what was there", "nano-USD", "0"),
    "overrun": (
        "the same, per failed growth of a hold, the bank being away",
        "tokens",
        f"{BEAT_TOKENS} + one read of the socket",
    ),
    "double": ("calls charged twice", "calls", "0"),
    "under": ("delivered and not charged, no process killed", "tokens", "0"),
    "under_kill": ("delivered and not charged after a kill", "tokens", f"what flowed in {BEAT_S:.0f} s + the way"),
    "under_dark": ("the same, where the bank was away, too", "tokens", "what flowed since the bank was away"),
    "over": ("charged and not sent, by the process's own word", "nano-USD", "0"),
    "over_unsent": ("charged, the backend not having begun to take the request", "calls of a run", "input and fee"),
    "over_kill": ("charged and not sent, by a checkpoint", "% of output", "34: bytes / 3, for tokens of 4"),
    "window": ("calls admitted in a window", "of the limit", "1"),
    "window_dark": ("the same, with Redis away or forgetful", "of the limit", "2; 1 more each time it forgot"),
    "probe": ("a good call after the last fault", "s", f"{_PROBE_S:.0f}"),
    "unlock": ("money of calls that ended, locked after that and the last fault", "s", f"{_UNLOCK_S:.0f}"),
    "horizon": ("anything held, after the last fault", "s", f"{HORIZON_S:.0f} + {GRACE_S:.0f}"),
    "slots": ("slots taken after the last call, or question", "s", f"{TTL_S:.0f} + {LOOK_S} between looks"),
}


@dataclass
class Verdict:
    """Of one run: what broke a promise, and the figures. Empty ``broken`` is a pass."""

    seed: int
    hash: str
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def worst(self, name: str, value: float) -> None:
        self.figures[name] = max(self.figures.get(name, 0.0), value)

    def bound(self, name: str, value: float, most: float, about: str) -> None:
        """A figure that may not be above ``most``."""
        self.worst(name, value)
        if value > most:
            self.broken.append(f"{name}: {value:g} above {most:g}: {about}")


@dataclass(frozen=True)
class _Told:
    """One call in three words."""

    request_id: UUID
    sent: list[Sent]
    call: Call | None
    hold: HoldRow | None
    charges: list[ChargeRow]

    @property
    def charge(self) -> ChargeRow | None:
        """The last word."""
        return self.charges[-1] if self.charges else None

    @property
    def about(self) -> str:
        number = self.sent[-1].call if self.sent else self.call.plan.number if self.call else "?"
        return f"call {number}, request {self.request_id}"


def judge(world: World) -> Verdict:
    """Everything that can be said of a run."""
    verdict = Verdict(world.scenario.seed, world.trace.hash)
    verdict.broken += [f"refused by a CHECK: {each}" for each in world.tables.violations]
    verdict.broken += [f"error: {each}" for each in world.errors]
    verdict.broken += invariants.broken(world.tables, _BY_VERSION)
    for told in _calls(world):
        _amounts(world, told, verdict)
        _given_up(world, told, verdict)
    _doubles(world, verdict)
    _windows(world, verdict)
    _liveness(world, verdict)
    return verdict


def _calls(world: World) -> Iterator[_Told]:
    sent: defaultdict[UUID, list[Sent]] = defaultdict(list)
    asked: dict[UUID, Call] = {}
    for each in world.backend.record:
        sent[UUID(each.request_id)].append(each)
    for call in world.calls:
        if call.request_id:
            asked[UUID(call.request_id)] = call
    # A caller who left before the head was told no request id: the backend's record has it.
    by_number = {call.plan.number: call for call in world.calls if not call.request_id}
    tables = world.tables
    for request_id in dict.fromkeys([*tables.holds, *sent, *asked]):
        records = sent[request_id]
        heard = asked.get(request_id) or (by_number.get(records[0].call) if records else None)
        yield _Told(request_id, records, heard, tables.holds.get(request_id), tables.charges_of[request_id])


# Safety ---------------------------------------------------------------------------------------------------------------


def _amounts(world: World, told: _Told, verdict: Verdict) -> None:
    charge = told.charge
    if charge is not None:
        _overspent(world, told, charge, verdict)
        _overcharged(told, charge, verdict)
    delivered = told.call.tokens if told.call else 0
    charged = Usage(**charge.usage).output_tokens if charge else 0
    if delivered > charged:
        _undercharged(world, told, delivered - charged, verdict)


def _overspent(world: World, told: _Told, charge: ChargeRow, verdict: Verdict) -> None:
    """Overrun is what the wallet did not cover. It may be only where a hold could not grow because the bank did not
    answer: each such time the answer went on for so many tokens."""
    if not charge.overrun:
        return verdict.worst("overspend", 0)
    failed = world.failed_growths[told.request_id]
    piece = max((tokens for sent in told.sent for _, tokens in sent.pieces), default=0)
    allowed = failed * (BEAT_TOKENS + (BUFFER_BYTES + piece * LETTERS) // _ESTIMATE_BYTES)
    if not failed:
        return verdict.bound("overspend", charge.overrun, 0, told.about)
    tokens = _in_tokens(charge, charge.overrun)
    return verdict.bound("overrun", tokens / failed, allowed / failed, told.about)


def _overcharged(told: _Told, charge: ChargeRow, verdict: Verdict) -> None:
    sent = told.sent[-1] if told.sent else None
    prompt, tokens = (sent.prompt, sum(each.tokens for each in told.sent)) if sent else (0, 0)
    due = _price(charge, Usage(input=prompt, output=tokens)) if sent else 0
    more = charge.amount - due
    if sent is None and charge.outcome in (Outcome.CALLER_LEFT, Outcome.DRAINED) and "output" not in charge.usage:
        # Its request was on its way when the call was ended; whether it arrived cannot be told apart.
        return verdict.worst("over_unsent", verdict.figures.get("over_unsent", 0) + 1)
    if charge.rev != Rev.PROVISIONAL:
        return verdict.bound("over", max(0, more), 0, told.about)
    estimate = Usage(input=prompt, output=-(-tokens * LETTERS // _ESTIMATE_BYTES))
    if more > 0 and tokens >= _MANY:
        verdict.worst("over_kill", 100 * _in_tokens(charge, more) / tokens)
    if charge.amount and (sent is None or charge.amount > _price(charge, estimate)):
        verdict.broken.append(f"over_kill: {charge.amount} charged by a checkpoint: {told.about}")


def _undercharged(world: World, told: _Told, tokens: int, verdict: Verdict) -> None:
    assert told.call is not None
    died = _died(world, told.call.replica)
    if died is None or (told.charge is not None and told.charge.rev != Rev.PROVISIONAL):
        return verdict.bound("under", tokens, 0, told.about)
    last = min(died, told.call.received[-1][0])
    since = last - BEAT_S - _TICK_S
    # Who stands still says nothing meanwhile: the two seconds are of its own time.
    for name, begun, ended in world.stops:
        if name == told.call.replica and begun <= last and ended >= since:
            since = begun - BEAT_S - _TICK_S
    dark = [begun for begun, ended in world.bank_weather.bad if begun <= last and ended + BANK_TIMEOUT_S >= since]
    if not dark:
        return verdict.bound("under_kill", tokens, told.call.tokens_since(since), told.about)
    first = min(since, min(dark) - BEAT_S - _TICK_S)
    # Storms that touch each other are one.
    for begun, ended in sorted(world.bank_weather.bad, reverse=True):
        if begun <= first <= ended + BANK_TIMEOUT_S + BEAT_S:
            first = begun - BEAT_S - _TICK_S
    return verdict.bound("under_dark", tokens, told.call.tokens_since(first), told.about)


def _price(charge: ChargeRow, usage: Usage) -> int:
    price = _BY_VERSION.get(charge.price_version, TOKEN_PRICE)
    return charge_amount(usage, price, charge.factor_ppm)


def _in_tokens(charge: ChargeRow, amount: int) -> float:
    """So much money, in output tokens of this charge's price."""
    price = _BY_VERSION.get(charge.price_version, TOKEN_PRICE)
    return amount * 10**9 / (price.rate("output") * (charge.factor_ppm or PPM))


def _given_up(world: World, told: _Told, verdict: Verdict) -> None:
    """A call whose process lived, ran and reached the bank is never taken for dead."""
    recovered = [charge for charge in told.charges if charge.outcome == Outcome.RECOVERED]
    if not recovered or told.hold is None or told.request_id in world.done_late:
        return
    owner = told.hold.owner
    disturbed = _died(world, owner) is not None or _stood_still(world, owner)
    opened = told.hold.opened_at.timestamp() - world.tables_begin
    bad = any(ended + TTL_S >= opened for _, ended in world.bank_weather.bad)
    if not (disturbed or bad):
        verdict.broken.append(f"given up though its process was well: {told.about}")


def _doubles(world: World, verdict: Verdict) -> None:
    """I5 counts words; here: one try of a caller is charged under one request, and one idempotency key for one try."""
    paid: defaultdict[str, set[UUID]] = defaultdict(set)
    trusted = not (world.forgot or world.redis_weather.bad)
    keys = {call.plan.number: call.plan.key for call in world.calls}
    users = {call.plan.number: call.plan.user for call in world.calls}
    for sent in world.backend.record:
        request_id = UUID(sent.request_id)
        if any(charge.usage for charge in world.tables.charges_of[request_id]):
            paid[f"call {sent.call}"].add(request_id)
            if keys.get(sent.call) and trusted:
                paid[f"{users[sent.call]}/{keys[sent.call]}"].add(request_id)
    twice = [name for name, requests in paid.items() if len(requests) > 1]
    verdict.bound("double", len(twice), 0, ", ".join(twice))


def _windows(world: World, verdict: Verdict) -> None:
    limited = {str(person.number) for person in world.scenario.people if person.tier == "limited"}
    moved = {str(event.which) for event in world.scenario.events if event.kind == "tier"}
    users = {str(world.principals[number].user_id) for number in limited - moved}
    by_user: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    for user, at, local in world.admitted.values():
        if user in users:
            by_user[user].append((at, local))
    for user, times in by_user.items():
        _window(world, user, sorted(times), verdict)


def _window(world: World, user: str, times: list[tuple[float, bool]], verdict: Verdict) -> None:
    for at, _ in times:
        within = [local for each, local in times if at <= each < at + WINDOW_S]
        forgot = sum(1 for instant in world.forgot if at <= instant < at + 2 * WINDOW_S)
        dark = any(begun < at + WINDOW_S and ended >= at for begun, ended in world.redis_weather.bad)
        allowed = WINDOW_LIMIT * (1 + forgot + (1 if any(within) or dark else 0)) + _reborn(world, at)
        name = "window" if allowed == WINDOW_LIMIT else "window_dark"
        verdict.worst(name, len(within) / WINDOW_LIMIT)
        if len(within) > allowed:
            verdict.broken.append(f"{name}: {len(within)} calls of {user} in a window, {allowed} allowed")


def _reborn(world: World, at: float) -> int:
    """Processes that ended in or before a window: what each had counted by itself is forgotten, at most its share. One
    that stood still was not reckoned with, and the others took its share; awake, it has it again."""
    if not world.redis_weather.bad:
        return 0
    instants = [died for replica in world.replicas for died in replica.ends]
    instants += [woke for name, _, woke in world.stops if name in world.stood_still]
    near = sum(1 for instant in instants if at - WINDOW_S <= instant < at + WINDOW_S)
    return near * -(-WINDOW_LIMIT // len(world.replicas))


# Liveness -------------------------------------------------------------------------------------------------------------


def _liveness(world: World, verdict: Verdict) -> None:
    verdict.bound("probe", world.probed_at - world.healed, _PROBE_S, "no good call after the last fault")
    verdict.bound("horizon", world.quiet_at - world.healed, HORIZON_S + GRACE_S, "something is held or waits")
    # A question that came to Redis after its caller had given up took a slot that nobody gives back but time.
    last = max(world.last_run_at, world.late_slot_at)
    verdict.bound("slots", max(0.0, world.slots_free_at - last), TTL_S + LOOK_S, "slots are taken")
    for call in world.calls:
        if call.ended_at is None or call.ended_at - call.begun > _CALLER_S:
            verdict.broken.append(f"call {call.plan.number} hangs")
        if call.status == 500 or (call.status == 0 and not call.received and _forsaken(call)):
            verdict.broken.append(f"call {call.plan.number} was answered {call.status}")
    verdict.broken += [f"set apart: {event.request_id}" for event in world.disk.refused]
    _unlocked(world, verdict)


def _forsaken(call: Call) -> bool:
    """Whether the server hung up without a word."""
    return call.left_at is None and call.broken_at is None


def _unlocked(world: World, verdict: Verdict) -> None:
    """What a living process's ended call had set aside is free soon; only the dead keep theirs until the horizon."""
    for hold_id, (first, last) in world.locked_idle.items():
        owner = world.tables.holds[hold_id].owner
        if hold_id not in world.done_late and _died(world, owner) is None:
            verdict.bound("unlock", last - max(first, world.healed), _UNLOCK_S, f"request {hold_id}")


def _died(world: World, process: str) -> float | None:
    """When this process was killed, if it was."""
    return world.killed.get(process)


def _stood_still(world: World, process: str) -> bool:
    """Whether it was frozen long enough to be taken for dead."""
    return process in world.stood_still


def merged(verdicts: Iterable[Verdict]) -> dict[str, Figure]:
    """The worst of many runs."""
    figures = {name: Figure(*words) for name, words in FIGURES.items()}
    for verdict in verdicts:
        for name, value in verdict.figures.items():
            figure = figures[name]
            if figure.seed < 0 or value > figure.worst:
                figure.worst, figure.seed = value, verdict.seed
    return figures
