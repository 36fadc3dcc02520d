"""Rows that stand outside their month are seen, and brought home without a fact being changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from ledger import months
from ledger.audit import SYSTEM
from ledger.detach import detach
from ledger.home import TooMany, bring_home, strays
from ledger.seal import seal, session
from ledger.table_locks import TablesBusy
from tests.ledger.old_months import ago, business_in, clock_in
from tests.ledger.till import Till

_NOTHING = dict.fromkeys(months.PARENTS, 0)


@pytest.fixture
async def connection(till: Till) -> AsyncIterator[Any]:
    async with session(till.engine) as connection:
        yield connection


async def _stray(till: Till, count: int) -> None:
    """A call of a month that has no partition."""
    with clock_in(ago(count)):
        await till.charge(await till.wallet(100), 30)


async def test_rows_of_months_without_a_partition_are_found_and_verify_names_them(till: Till, connection: Any) -> None:
    await _stray(till, 4)
    assert await strays(connection) == {"holds": 1, "charges": 1, "journal_entries": 2, "postings": 4}
    assert await strays(connection, 3) == {"holds": 1, "charges": 1, "journal_entries": 2, "postings": 3}
    assert await till.broken() == ["I15"]


async def test_they_are_moved_into_their_months_unchanged(till: Till, connection: Any) -> None:
    await _stray(till, 4)
    await _stray(till, 6)
    tables = [f"SELECT * FROM {parent} ORDER BY {', '.join(key)}" for parent, key in months.PARENTS.items()]
    before = [await till.sql(query) for query in tables]
    assert await bring_home(connection, SYSTEM) == ([ago(6), ago(4)], _NOTHING)
    assert [await till.sql(query) for query in tables] == before
    for month in (ago(6), ago(4)):
        assert await till.value(f"SELECT count(*) FROM {months.table('charges', month)}") == 1
    assert await till.broken() == []
    assert await bring_home(connection, SYSTEM) == ([], _NOTHING)


async def test_the_default_partition_is_guarded_and_takes_rows_in_as_before(till: Till, connection: Any) -> None:
    await _stray(till, 4)
    await bring_home(connection, SYSTEM)
    await _stray(till, 5)
    assert (await strays(connection))["charges"] == 1
    for statement in ("TRUNCATE charges_default", "UPDATE charges_default SET amount = 0"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await till.sql(statement)
    with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
        await till.sql(
            "INSERT INTO postings_default (entry_id, line, account, amount) VALUES ($1, 0, 'a', 5)",
            months.bounds(ago(7))[0],
        )
    await bring_home(connection, SYSTEM)
    assert await till.broken() == []


async def test_what_has_no_month_to_go_to_stays_and_is_named(till: Till, connection: Any) -> None:
    await till.sql(
        "INSERT INTO holds (id, wallet_id, amount, state, price_version, factor_ppm, facts, owner, expires_at, "
        "release_at) VALUES ($1, $1, 0, 'voided', 1, 1, '{}', 'x', now(), now())",
        uuid4(),
    )
    await _stray(till, 4)
    moved, left = await bring_home(connection, SYSTEM)
    assert (moved, left) == ([ago(4)], {**_NOTHING, "holds": 1})


async def test_nothing_is_moved_behind_a_detached_month(till: Till, connection: Any) -> None:
    old = await business_in(till, ago(6))
    await seal(till.engine, old.month, SYSTEM)
    await detach(connection, old.month, SYSTEM)
    await _stray(till, 6)
    await _stray(till, 7)
    moved, left = await bring_home(connection, SYSTEM)
    assert moved == [] and left["charges"] == 2


async def test_very_many_are_moved_only_by_who_says_so(till: Till, connection: Any) -> None:
    await _stray(till, 4)
    with pytest.raises(TooMany, match="more than 3 rows: calls would wait"):
        await bring_home(connection, SYSTEM, at_once=3)
    assert (await bring_home(connection, SYSTEM, at_once=8))[1] == _NOTHING


async def test_a_reader_is_not_waited_for(till: Till, connection: Any) -> None:
    await _stray(till, 4)
    async with session(till.engine) as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM holds")
        with pytest.raises(TablesBusy):
            await bring_home(connection, SYSTEM)
    assert (await strays(connection))["holds"] == 1
