"""What happens in one run, drawn from its seed before it begins: people and their money, calls, faults. Values only."""

from __future__ import annotations

from random import Random
from typing import Literal, get_args

import msgspec

from simulation.backend import Script
from simulation.caller import Plan
from simulation.house import TIERS

Fault = Literal["kill", "stop", "drain", "flush", "rollback", "redis", "bank", "delay", "clock"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""kill: SIGKILL. stop: frozen and woken. drain: SIGTERM. flush, rollback: Redis forgets all, or the last seconds.
redis, bank: away. delay: questions and answers slow or lost, rows locked. clock: a process's wall clock steps."""

CALLS_S, HEAL_S = 22.0, 24.0
"""Calls begin, and faults happen, in so many seconds; then all faults heal."""

SHORT = 7
"""Output tokens of calls that are made for their number."""

BORDER_S = 600.0
"""When, on the clock of a run, the month ends."""


class Person(msgspec.Struct, frozen=True):
    """Somebody with a wallet. Amounts in nano-USD; the gift ends after ``gift_s`` seconds."""

    number: int
    tier: str
    paid: int
    gift: int = 0
    gift_s: float = 0.0
    budget: int = 0


class Event(msgspec.Struct, frozen=True):
    """Something that befalls the world: a fault, or an order of an administrator. ``which``: a replica, person or
    call; ``for_s`` how long it lasts."""

    at_s: float
    kind: str
    which: int = 0
    for_s: float = 0.0
    amount: int = 0
    name: str = ""


class Scenario(msgspec.Struct, frozen=True):
    """One run. ``begins_s`` is when on the run's clock it begins."""

    seed: int
    begins_s: float
    replicas: int
    people: tuple[Person, ...]
    plans: tuple[Plan, ...]
    scripts: dict[int, Script]
    events: tuple[Event, ...]


def draw(seed: int, faults: tuple[Fault, ...]) -> Scenario:
    """The scenario of a seed; the same for the same seed and faults."""
    chance = Random(f"scenario:{seed}")
    people = tuple([_person(chance, number) for number in range(chance.randint(2, 5))])
    plans = _plans(chance, people)
    orders = [_order(chance, people, plans) for _ in range(chance.randint(0, 9))]
    replicas = chance.randint(2, 3)
    mishaps = [event for fault in faults for event in _mishaps(chance, fault, replicas, people)]
    return Scenario(
        seed,
        BORDER_S - chance.uniform(2, 60),
        replicas,
        people,
        plans,
        {plan.number: _script(chance, plan) for plan in plans},
        tuple(sorted([*orders, *mishaps], key=lambda event: event.at_s)),
    )


def _person(chance: Random, number: int) -> Person:
    tier = chance.choice(tuple(TIERS))
    poor, some, rich = chance.randint(0, 3_000_000), chance.randint(1_000_000, 20_000_000), 10**12
    paid = chance.choice((poor, poor, some, rich))
    if tier == "limited":
        paid = rich
    gift = chance.choice((0, 0, chance.randint(1, 5_000_000)))
    budget = chance.choice((0, 0, 0, chance.randint(500_000, 6_000_000)))
    return Person(number, tier, paid, gift, chance.uniform(1, 40), budget)


def _plans(chance: Random, people: tuple[Person, ...]) -> tuple[Plan, ...]:
    plans = [plan for person in people if person.tier == "limited" for plan in _burst(chance, person)]
    plans = [msgspec.structs.replace(plan, number=number) for number, plan in enumerate(plans)]
    for number in range(len(plans), len(plans) + chance.randint(10, 22)):
        person = chance.choice(people)
        stream = chance.random() < 0.8
        again = chance.random() < 0.1 and plans and plans[-1].user == person.number
        plans.append(
            Plan(
                number,
                person.number,
                chance.uniform(0.2, CALLS_S),
                chance.choice(("small", "small", "dear")),
                chance.choice((1, 20, 200)),
                stream,
                chance.choice((None, None, None, 40, 400)),
                chance.uniform(0.05, 8) if chance.random() < 0.3 else None,
                chance.choice((0.0, 0.0, 0.0, 0.3, 3.0)) if stream else 0.0,
                (plans[-1].key or f"key-{number}") if again else f"key-{number}" if chance.random() < 0.2 else "",
            )
        )
    return tuple(plans)


def _burst(chance: Random, person: Person) -> list[Plan]:
    """More short calls in a short time than the person's window allows."""
    begins = chance.uniform(0.2, CALLS_S - 8)
    times = sorted(chance.uniform(begins, begins + 8) for _ in range(chance.randint(8, 30)))
    return [Plan(0, person.number, at_s, "small", 1, True, SHORT) for at_s in times]


def _script(chance: Random, plan: Plan) -> Script:
    if plan.max_tokens == SHORT:
        return Script(0.05, ((0.05, SHORT),), "end", "well", plan.stream)
    ending = chance.choices(("well", "reset", "stall", "status", "refused", "connect"), (82, 6, 3, 4, 2, 3))[0]
    usage = chance.choices(("end", "none", "cumulative"), (6, 2, 2))[0]
    size = chance.choice((10, 40, 40, 120))
    count = chance.choice((1, 4, 12, 12, 25))
    gap_s = chance.choice((0.05, 0.15, 0.4, 0.9)) if count > 4 else chance.choice((0.05, 0.5, 2.0))
    if chance.random() < 0.1:
        gap_s, count = 1.1, 25
    pieces = tuple([(gap_s * chance.uniform(0.5, 1.5), chance.randint(1, 2 * size)) for _ in range(count)])
    return Script(chance.choice((0.05, 0.3, 1.5)), pieces, usage, ending, plan.stream)  # type: ignore[arg-type]


def _order(chance: Random, people: tuple[Person, ...], plans: tuple[Plan, ...]) -> Event:
    """What administrators do meanwhile."""
    kind = chance.choice(("top-up", "deduct", "refund", "refund", "refund", "tier"))
    which = chance.choice(plans).number if kind == "refund" else chance.choice(people).number
    part = chance.choice((0, 1000, 50_000, 2_000_000))
    return Event(chance.uniform(1, HEAL_S + 10), kind, which, 0.0, part, chance.choice(tuple(TIERS)))


def _mishaps(chance: Random, fault: Fault, replicas: int, people: tuple[Person, ...]) -> list[Event]:
    """Up to three faults of one kind; often none, so that runs differ in which kinds meet."""
    return [_mishap(chance, fault, replicas, people) for _ in range(chance.choice((0, 0, 1, 1, 2, 3)))]


def _mishap(chance: Random, fault: Fault, replicas: int, people: tuple[Person, ...]) -> Event:
    at_s, which = chance.uniform(0.5, HEAL_S - 3), chance.randrange(replicas)
    left_s = HEAL_S - at_s
    if fault == "bank":
        return Event(at_s, "bank away", for_s=min(left_s, chance.choice((0.3, 2.0, 8.0, 20.0))))
    if fault == "redis":
        return Event(at_s, "redis away", for_s=min(left_s, chance.choice((0.3, 3.0, 12.0))))
    if fault == "delay":
        return _delay(chance, at_s, min(left_s, chance.choice((0.5, 3.0, 10.0))), people)
    if fault == "stop":
        for_s = chance.choice((0.5, 4.0, 18.0, 18.0))
        return Event(chance.uniform(0.5, max(1.0, HEAL_S - for_s)), "stop", which, for_s)
    if fault == "drain":
        return Event(at_s, "drain", which, chance.choice((0.1, 5.0)))
    if fault == "clock":
        return Event(at_s, "clock", which, chance.choice((-3600.0, -5.0, 0.4, 5.0, 90.0, 86_400.0)))
    if fault == "rollback":
        return Event(at_s, "rollback", for_s=chance.choice((0.5, 3.0)))
    return Event(at_s, fault, which)


def _delay(chance: Random, at_s: float, for_s: float, people: tuple[Person, ...]) -> Event:
    kind = chance.choice(("bank slow", "bank lossy", "redis slow", "redis lossy", "rows locked"))
    return Event(at_s, kind, chance.choice(people).number, for_s, name=chance.choice(("a little", "much")))
