"""The SQL by which people are seeded: chances that repeat, ids of the right form."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from farebox import seed_sql
from ledger.ids import instant_of
from ledger.reading import fetch


async def test_a_chance_repeats_and_lies_between_zero_and_one(database_url: str) -> None:
    engine = create_async_engine(database_url)
    query = f"SELECT {seed_sql.chance('n', 7)} AS c FROM generate_series(1, 2000) AS n"
    first, second = [[row["c"] for row in await fetch(engine, query)] for _ in range(2)]
    await engine.dispose()
    assert first == second and all(0 <= each < 1 for each in first)
    assert 0.4 < sum(first) / len(first) < 0.6 and len(set(first)) > 1990


async def test_an_id_is_a_version_7_one_of_its_instant(database_url: str) -> None:
    engine = create_async_engine(database_url)
    [row] = await fetch(engine, f"SELECT {seed_sql.uuid7('1700000000123', chr(39) + 'x' + chr(39))} AS id")
    await engine.dispose()
    made: UUID = row["id"]
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert instant_of(made).timestamp() == pytest.approx(1_700_000_000.123)
