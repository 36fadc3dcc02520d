"""Steps that change full tables: what broke off is taken up again, locks are waited for briefly, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from config.watch import driver_options
from farebox import migrate
from farebox.migrate import MigrationError, downgrade, status, upgrade
from ledger import months
from ledger.audit import SYSTEM
from ledger.detach import attach, detach
from ledger.engine import make_engine
from ledger.seal import seal, session
from ledger.verify import verify
from tests.ledger.business import business
from tests.ledger.old_months import ago, business_in
from tests.ledger.till import Till

# Of indexes of partitions the names are not compared: those made with a table and those built later differ in them.
_SCHEMA = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0
            AND NOT a.attisdropped
    """,
    "indexes": r"""
        SELECT x.indrelid::regclass::text, x.indisvalid, x.indisunique,
               regexp_replace(pg_get_indexdef(x.indexrelid), 'INDEX \S+ ON', 'INDEX ON')
        FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE c.relnamespace = 'public'::regnamespace
    """,
    "names of indexes": """
        SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid
        WHERE NOT relispartition AND c.relnamespace = 'public'::regnamespace
    """,
    "constraints": """
        SELECT conrelid::regclass::text, CASE WHEN contype IN ('p', 'u') THEN '' ELSE conname END, convalidated,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND contype <> 'n'
    """,
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": """
        SELECT pg_get_functiondef(oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.objid = p.oid)
    """,
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "partitions": """
        SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r'
    """,
    "comments": """
        SELECT objoid::regclass::text, a.attname, description FROM pg_description d
        LEFT JOIN pg_attribute a ON a.attrelid = objoid AND a.attnum = objsubid
        JOIN pg_class c ON c.oid = objoid AND c.relnamespace = 'public'::regnamespace
        WHERE classoid = 'pg_class'::regclass
    """,
}


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**driver_options(url))
    try:
        yield connection
    finally:
        await connection.close()


async def _schema(url: str) -> dict[str, list[str]]:
    async with _connected(url) as connection:
        return {
            name: sorted(str(tuple(row)) for row in await connection.fetch(query)) for name, query in _SCHEMA.items()
        }


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    engine = make_engine(database_url)
    yield await Till.open(engine)
    await engine.dispose()


async def _down_to(url: str, step: str) -> None:
    while (await status(url)).current != step:
        await downgrade(url)


async def test_up_down_and_up_again_is_the_same_schema_at_every_step(empty_database_url: str) -> None:
    seen = {}
    for step in migrate.all_steps():
        await upgrade(empty_database_url, step)
        seen[step] = await _schema(empty_database_url)
    for step in reversed(migrate.all_steps()):
        assert await _schema(empty_database_url) == seen[step], step
        await downgrade(empty_database_url)
    await upgrade(empty_database_url)
    assert await _schema(empty_database_url) == seen[migrate.all_steps()[-1]]


async def test_a_ledger_goes_down_to_where_all_money_is_kept_and_up_again(till: Till, database_url: str) -> None:
    await business(till)
    await till.engine.dispose()
    await _down_to(database_url, "0004")
    await upgrade(database_url)
    assert [finding.line() for finding in await verify(till.engine) if not finding.holds] == []


async def test_grants_emptied_before_their_index_are_left_out_of_it(till: Till, database_url: str) -> None:
    await _down_to(database_url, "0010")
    empty, rich = await till.wallet(30), await till.wallet(30)
    await till.charge(empty, 30)
    await upgrade(database_url)
    live = dict(await till.sql("SELECT wallet_id, live FROM grants"))
    assert live == {empty: False, rich: True}
    assert await till.broken() == []


async def test_charges_made_before_there_were_statistics_wait_to_be_counted(till: Till, database_url: str) -> None:
    await business_in(till, ago(5))
    await till.charge(await till.wallet(100), 30)
    charges = await till.value("SELECT count(*) FROM charges")
    await till.engine.dispose()
    await _down_to(database_url, "0003")
    async with _connected(database_url) as connection:
        # As a step leaves it that broke off while it was filling.
        await connection.execute(
            "CREATE TABLE charges_to_roll (request_id uuid NOT NULL, rev text NOT NULL, "
            "posted_at timestamptz NOT NULL DEFAULT now())"
        )
        await connection.execute("INSERT INTO charges_to_roll (request_id, rev) SELECT request_id, rev FROM charges")
    await upgrade(database_url)
    assert await till.value("SELECT count(*) FROM charges_to_roll") == charges
    assert await till.value("SELECT count(DISTINCT (request_id, rev)) FROM charges_to_roll") == charges


async def test_an_index_left_half_built_is_built_anew(till: Till, database_url: str) -> None:
    await business(till)
    whole = await _schema(database_url)
    await till.engine.dispose()
    await _down_to(database_url, "0004")
    charges = months.table("charges", ago(0))
    async with _connected(database_url) as connection, _connected(database_url) as other:
        async with _holding(other, "SELECT txid_current()"):  # an old transaction: building waits for its end
            await connection.execute("SET statement_timeout = '200ms'")
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute(
                    f"CREATE INDEX CONCURRENTLY {charges}_by_model ON {charges} (model, request_id)"
                )
        invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
        assert await connection.fetchval(invalid) == f"{charges}_by_model"
        await upgrade(database_url)
        assert await connection.fetchval(invalid) is None
    assert await _schema(database_url) == whole


async def test_a_step_that_broke_off_behind_its_indexes_is_taken_up_again(till: Till, database_url: str) -> None:
    whole = await _schema(database_url)
    await till.engine.dispose()
    await _down_to(database_url, "0004")
    async with _connected(database_url) as other:
        await other.execute("CREATE TABLE groups ()")  # in the way of the step's last part
        with pytest.raises(Exception, match="already exists"):
            await upgrade(database_url)
        assert (await status(database_url)).current == "0004"
        await other.execute("DROP TABLE groups")
    await upgrade(database_url)
    assert await _schema(database_url) == whole


async def test_a_long_transaction_is_waited_for_by_trying_again_and_nobody_waits_with_the_step(
    till: Till, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_PAUSE_SECONDS", 0.3)
    wallet = await till.wallet(10**6)
    await _down_to(database_url, "0005")
    async with _connected(database_url) as other, _connected(database_url) as reader:
        longest = 0.0
        async with _holding(other, "SELECT count(*) FROM charges"):
            undoing = asyncio.create_task(downgrade(database_url))
            for _ in range(15):
                longest = max(longest, await _timed(reader.fetchval("SELECT count(*) FROM charges")))
                longest = max(longest, await _timed(reader.fetchval("SELECT 1 FROM wallets WHERE id = $1", wallet)))
                await asyncio.sleep(0.1)
            assert not undoing.done()
        await undoing
    assert longest < 6
    assert (await status(database_url)).current == "0004"


async def test_a_ledger_with_a_detached_month_does_not_go_below_its_seals(till: Till, database_url: str) -> None:
    old = await business_in(till, ago(6))
    await seal(till.engine, old.month, SYSTEM)
    async with session(till.engine) as connection:
        await detach(connection, old.month, SYSTEM)
        await _down_to(database_url, "0007")
        with pytest.raises(MigrationError, match=rf"^Months are detached \({months.name(old.month)}\): attach them"):
            await downgrade(database_url)
        await upgrade(database_url)
        await attach(connection, old.month, SYSTEM)
    await till.engine.dispose()
    await _down_to(database_url, "0006")
    await upgrade(database_url)
    assert await till.broken() == []


@asynccontextmanager
async def _holding(connection: Any, query: str) -> AsyncIterator[None]:
    """A transaction that has done this and goes on."""
    async with connection.transaction():
        await connection.fetchval(query)
        yield


async def _timed(work: Any) -> float:
    begun = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - begun
