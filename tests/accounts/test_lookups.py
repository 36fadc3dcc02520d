"""Shared look-ups: one query at a time, everybody answered, nobody hurt by somebody else's leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from accounts.lookups import Lookups, TooManyLookups


class Table:
    """Answers with the length of a name, when the gate is open."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def find(self, names: Sequence[str]) -> Mapping[str, int]:
        self.queries.append(list(names))
        await self.gate.wait()
        if self.fails:
            raise OSError("away")
        return {name: len(name) for name in names if name != "none"}


async def test_callers_who_wait_share_the_next_query() -> None:
    table = Table()
    lookups = Lookups(table.find, batch=3)
    asked = [asyncio.create_task(lookups.find(name)) for name in ("a", "bb", "bb", "none", "cccc", "d")]
    await asyncio.sleep(0)
    table.gate.set()
    assert await asyncio.gather(*asked) == [1, 2, 2, None, 4, 1]
    assert table.queries == [["a", "bb", "none"], ["cccc", "d"]]


async def test_more_callers_than_may_wait_are_turned_away() -> None:
    table = Table()
    lookups = Lookups(table.find, waiting_max=2)
    waiting = [asyncio.create_task(lookups.find(name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLookups):
        await lookups.find("c")
    table.gate.set()
    assert await asyncio.gather(*waiting) == [1, 1]
    assert await lookups.find("c") == 1


async def test_a_failed_query_is_told_to_everybody_and_the_next_one_works() -> None:
    table = Table()
    table.fails = True
    table.gate.set()
    lookups = Lookups(table.find)
    answers = await asyncio.gather(lookups.find("a"), lookups.find("b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError, OSError]
    table.fails = False
    assert await lookups.find("a") == 1


async def test_a_caller_who_leaves_hurts_nobody() -> None:
    table = Table()
    lookups = Lookups(table.find)
    leaver, stayer = (asyncio.create_task(lookups.find("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    table.gate.set()
    assert await stayer == 1
    await lookups.aclose()
