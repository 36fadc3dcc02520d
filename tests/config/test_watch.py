"""Notices of change: what is told, what is not, and what happens when the line is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from config.watch import Watcher

Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Notes:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.listening: list[bool] = []

    def changed(self, table: str, key: str) -> None:
        self.changes.append(f"{table}:{key}")

    def everything_changed(self, *, listening: bool) -> None:
        self.listening.append(listening)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
async def watcher(database_url: str, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watcher]:
    """It takes a line for cut only where it is."""
    monkeypatch.setattr("config.watch._PING_TIMEOUT_S", 30)
    watcher = Watcher(database_url, [notes])
    await watcher.start()
    yield watcher
    await watcher.aclose()


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


WALLET = "INSERT INTO wallets (id) VALUES ('00000000-0000-0000-0000-000000000001')"
USER = """INSERT INTO users (id, wallet_id, realm, subject, tier) VALUES ('00000000-0000-0000-0000-000000000002',
          '00000000-0000-0000-0000-000000000001', 'r', 's', 'free')"""
KEY = """INSERT INTO api_keys (id, prefix, digest, user_id) VALUES ('00000000-0000-0000-0000-000000000003', 'p',
         decode(repeat('00', 32), 'hex'), '00000000-0000-0000-0000-000000000002')"""


@pytest.mark.usefixtures("watcher")
@pytest.mark.parametrize(
    ("before", "statement", "told"),
    [
        ("SELECT 1", "INSERT INTO tiers (name, doc) VALUES ('t', '{}')", "tiers:t"),
        ("INSERT INTO models (name, doc) VALUES ('m', '{}')", "UPDATE models SET retired_at = now()", "models:m"),
        ("INSERT INTO upstreams (name, doc) VALUES ('u', '{}')", "DELETE FROM upstreams", "upstreams:u"),
        ("SELECT 1", "INSERT INTO prices (model_id, doc) VALUES ('m:1', '{}')", "prices:m:1"),
        (USER, "UPDATE users SET status = 'suspended'", "users:00000000-0000-0000-0000-000000000002"),
        (KEY, "UPDATE api_keys SET revoked_at = now()", "api_keys:00000000-0000-0000-0000-000000000003"),
        (KEY, "DELETE FROM api_keys", "api_keys:00000000-0000-0000-0000-000000000003"),
    ],
)
async def test_a_committed_change_is_told(
    engine: AsyncEngine, notes: Notes, until: Until, before: str, statement: str, told: str
) -> None:
    await run(engine, WALLET, *([USER] if before == KEY else []), before)
    await run(engine, statement)
    await until(lambda: told in notes.changes)


@pytest.mark.usefixtures("watcher")
async def test_what_nobody_remembers_is_not_told(engine: AsyncEngine, notes: Notes, until: Until) -> None:
    await run(engine, WALLET, USER, KEY)
    await run(engine, "UPDATE api_keys SET last_used_at = now()", "UPDATE users SET updated_at = now()")
    await run(engine, "INSERT INTO tiers (name, doc) VALUES ('last', '{}')")
    await until(lambda: "tiers:last" in notes.changes)
    assert notes.changes == ["tiers:last"]


async def test_a_cut_line_makes_everybody_forget_twice_and_is_mended(
    engine: AsyncEngine, watcher: Watcher, notes: Notes, until: Until
) -> None:
    assert notes.listening == [True]
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await run(engine, f"SELECT pg_terminate_backend(pid) {others} AND query ILIKE 'listen%'")
    await until(lambda: notes.listening == [True, False, True])
    await run(engine, "INSERT INTO tiers (name, doc) VALUES ('after', '{}')")
    await until(lambda: "tiers:after" in notes.changes)
    assert watcher.listening.is_set()


async def test_a_closed_watcher_is_silent(database_url: str, engine: AsyncEngine, notes: Notes) -> None:
    watcher = Watcher(database_url, [notes])
    await watcher.start()
    await watcher.aclose()
    async with engine.connect() as connection:
        left: Any = await connection.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'listen%'"))
    assert left == 0 and notes.listening == [True, False]
