"""Tests of the migration runner: every step up and down on a real database, and what it does when others are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from farebox import migrate
from farebox.migrate import MigrationError, Status, downgrade, status, upgrade


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def _objects(url: str) -> set[str]:
    """What a schema is made of: its tables, functions, types and triggers by name, but for what extensions bring."""
    ours = "= 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.objid = {})"
    query = text(
        "SELECT 'table ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        f" UNION SELECT 'function ' || proname FROM pg_proc WHERE pronamespace {ours.format('pg_proc.oid')}"
        f" UNION SELECT 'type ' || typname FROM pg_type WHERE typelem = 0 AND typnamespace {ours.format('pg_type.oid')}"
        " UNION SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    async with _connected(url) as connection:
        return set((await connection.execute(query)).scalars())


async def _set_revision(url: str, revision: str) -> None:
    async with _connected(url) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
        await connection.commit()


async def test_a_new_database_is_empty_and_one_upgrade_makes_it_current(empty_database_url: str) -> None:
    assert (await status(empty_database_url)).state == "empty"
    await upgrade(empty_database_url)
    found = await status(empty_database_url)
    assert (found.state, found.current) == ("current", found.head)


async def test_upgrading_a_current_database_changes_nothing(database_url: str) -> None:
    before = await _objects(database_url)
    await upgrade(database_url)
    assert await _objects(database_url) == before


async def test_every_step_can_be_undone_and_done_again(database_url: str) -> None:
    head = await _objects(database_url)
    while (found := await status(database_url)).state != "empty":
        await downgrade(database_url)
        assert (await status(database_url)).current != found.current
    left = {name for name in await _objects(database_url) if "alembic_version" not in name}
    assert left == set()
    await upgrade(database_url)
    assert await _objects(database_url) == head


async def test_all_steps_can_be_undone_at_once(database_url: str) -> None:
    await downgrade(database_url, None)
    assert (await status(database_url)).state == "empty"


async def test_more_steps_than_there_are_cannot_be_undone(database_url: str) -> None:
    with pytest.raises(MigrationError, match="steps to undo, and 1000 were asked for"):
        await downgrade(database_url, 1000)
    assert (await status(database_url)).state == "current"


async def test_the_schema_of_a_newer_release_is_refused_with_a_clear_sentence(database_url: str) -> None:
    await _set_revision(database_url, "9999")
    assert (await status(database_url)).state == "unknown"
    with pytest.raises(MigrationError, match=r"at 9999, which this release does not know.*newer Farebox"):
        await upgrade(database_url)
    with pytest.raises(MigrationError, match="newer Farebox"):
        await downgrade(database_url)


async def test_replicas_that_start_together_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(upgrade(empty_database_url) for _ in range(4)))
    assert (await status(empty_database_url)).state == "current"


async def test_a_lock_held_for_a_moment_is_waited_for_by_trying_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(migrate, "_LOCK_PAUSE_SECONDS", 0.02)
    async with _connected(database_url) as other:
        await other.execute(text("LOCK TABLE alembic_version"))
        undoing = asyncio.create_task(downgrade(database_url, None))
        await _until_a_lock_is_waited_for(other)
        await other.rollback()
        await undoing
    assert (await status(database_url)).state == "empty"


async def _until_a_lock_is_waited_for(connection: AsyncConnection) -> None:
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    while not await connection.scalar(waiting):
        await asyncio.sleep(0.005)


async def test_a_lock_held_too_long_is_an_error_and_leaves_the_schema_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT_MS", 10)
    monkeypatch.setattr(migrate, "_LOCK_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(migrate, "_LOCK_TRIES", 3)
    before = await _objects(database_url)
    async with _connected(database_url) as other:
        await other.execute(text("LOCK TABLE wallets IN ROW SHARE MODE"))
        with pytest.raises(
            MigrationError, match=r"locked 3 times.*oldest transaction is that of .*process \d+.*try again"
        ):
            await downgrade(database_url, None)
    await upgrade(database_url)
    assert await _objects(database_url) == before


async def test_a_turn_that_never_comes_is_an_error(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_TURN_SECONDS", 0.2)
    async with _connected(database_url) as other:
        await other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrate._ADVISORY_KEY})
        with pytest.raises(MigrationError, match="Another process has been migrating"):
            await upgrade(database_url)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Status("0002", "0002", "current"), "The schema is current"),
        (Status(None, "0002", "empty"), "no schema yet; `farebox migrate up`"),
        (Status("0001", "0002", "behind"), "at 0001 and this release needs 0002"),
        (Status("0003", "0002", "unknown"), "at 0003, which this release does not know"),
    ],
)
def test_each_state_has_its_sentence(found: Status, sentence: str) -> None:
    assert sentence in found.sentence
