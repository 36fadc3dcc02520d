"""Someone who may run one call at a time, and makes one after the other."""

from __future__ import annotations

from pathlib import Path

from tests import house
from tests.backend import Backend

_ONE_AT_A_TIME = """
[[tiers]]
name = "single"
concurrency = 1
"""


async def test_the_next_call_finds_the_slot_free_as_soon_as_the_answer_has_ended(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_ONE_AT_A_TIME) as farebox:
        ada = await farebox.caller(tier="single")
        for stream in (False, True):
            answers = [await farebox.chat(ada, stream=stream) for _ in range(40)]
            assert {answer.status for answer in answers} == {200}
