"""Who calls, and how: drawn from a seed, so that a run can be repeated; and the two ways in which a crowd comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.house import Caller
from tests.torture.plan import Fail, Plan, Reports
from tests.torture.swarm import Order, Swarm

_FAILS: tuple[Fail, ...] = ("head", "first", "middle", "middle", "stall")
_PIECE_BYTES = 170
"""About what one piece of a stream takes, for those who leave after so many bytes."""


@dataclass(frozen=True)
class Habits:
    """Of a crowd. Shares are from 0 to 1; ``length`` in tokens, ``rate`` in tokens a second, each drawn evenly;
    ``chunk``: tokens a piece."""

    length: tuple[int, int] = (20, 60)
    rate: tuple[float, float] = (15.0, 25.0)
    chunk: int = 1
    streamed: float = 0.85
    leaves: float = 0.0
    fails: float = 0.0
    stalls: bool = True
    keyed: float = 0.0
    slow: float = 0.0
    tries: int = 1


class Crowd:
    """Draws one order after another: the same seed gives the same orders."""

    def __init__(self, people: Sequence[Caller], habits: Habits, seed: int | str) -> None:
        self._people = people
        self._habits = habits
        self._seed = seed
        self._chance = random.Random(f"{seed}")
        self._drawn = 0

    def order(self) -> Order:
        """The next one."""
        habits, chance = self._habits, self._chance
        self._drawn += 1
        nonce = f"{self._seed}x{self._drawn}"
        length = chance.randint(*habits.length)
        plan = Plan(
            nonce=nonce,
            rate=round(chance.uniform(*habits.rate), 2),
            length=length,
            chunk=habits.chunk,
            usage=self._usage(),
            fail=self._fail(),
            at=chance.randint(1, length),
        )
        return Order(
            caller=chance.choice(self._people),
            plan=plan,
            streamed=chance.random() < habits.streamed,
            shows_usage=chance.random() < 0.6,
            leaves_after=self._leaves(length),
            slow_s=chance.uniform(0.05, 0.3) if chance.random() < habits.slow else 0.0,
            key=f"key-{nonce}" if chance.random() < habits.keyed else "",
            tries=habits.tries,
        )

    def _usage(self) -> Reports:
        draw: Literal["end", "every", "none"] = self._chance.choices(("end", "every", "none"), (6, 2, 2))[0]
        return draw

    def _fail(self) -> Fail:
        if self._chance.random() >= self._habits.fails:
            return "none"
        return self._chance.choice(_FAILS if self._habits.stalls else _FAILS[:-1])

    def _leaves(self, length: int) -> int | None:
        if self._chance.random() >= self._habits.leaves:
            return None
        most = length * _PIECE_BYTES // self._habits.chunk
        return self._chance.randint(0, most) if self._chance.random() < 0.95 else 0


async def keep(swarm: Swarm, crowd: Crowd, count: int, over: Callable[[], bool]) -> None:
    """So many calls open at any time, until it is over; the last ones are waited for."""

    async def one() -> None:
        while not over():
            heard = await swarm.call(crowd.order())
            if heard.status != 200:
                await asyncio.sleep(0.5)

    await asyncio.gather(*(one() for _ in range(count)))


async def steady(swarm: Swarm, crowd: Crowd, rate: float, going: Callable[[], bool], chance: random.Random) -> None:
    """So many calls a second on the average, whatever becomes of them; the last ones are waited for."""
    running: set[asyncio.Task[object]] = set()
    while going():
        task: asyncio.Task[object] = asyncio.create_task(swarm.call(crowd.order()))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(chance.expovariate(rate))
    if running:
        await asyncio.wait(running)
