"""A real database under the doctor's eyes, with one thing after another made wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from accounts.keys import fingerprint
from admin_api import app as admin_app
from config.settings import Settings
from config.watch import driver_options
from farebox import check_database
from farebox.check_database import look_at_database, schema_is_current
from farebox.findings import Found
from farebox.migrate import downgrade
from gateway import app as gateway_app
from openwebui import opening
from tests import house
from tests.house import PEPPER


@pytest.fixture
def settings(data_dir: Path, database_url: str) -> Settings:
    return house.settings(data_dir, database_url, "redis://127.0.0.1:1")


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**driver_options(database_url))
    yield connection
    await connection.close()


async def looked(url: str, settings: Settings) -> dict[str, Found]:
    return {found.subject: found for found in await look_at_database(url, settings)}


def _name(url: str) -> str:
    return str(make_url(url).database)


async def test_a_good_database_is_good(database_url: str, settings: Settings, sql: asyncpg.Connection) -> None:
    found = await looked(database_url, settings)
    for subject in ("reachable", "role", "clock", "connections", "notices", "schema", "months ahead"):
        assert found[subject].verdict == "ok", found[subject]
    assert found["reachable"].says.startswith("Postgres ")
    assert found["pepper"].verdict == "note"
    # The servers of tests may be told not to wait for their disks.
    for name in ("fsync", "full_page_writes"):
        assert (found[name].verdict == "error") == (await sql.fetchval(f"SHOW {name}") == "off")


@pytest.mark.parametrize("change", [{"port": 1, "host": "127.0.0.1", "query": {}}, {"database": "no_such_database"}])
async def test_a_database_that_is_not_there_is_one_error(
    database_url: str, settings: Settings, change: dict[str, Any]
) -> None:
    url = make_url(database_url).set(**change).render_as_string(hide_password=False)
    (found,) = await look_at_database(url, settings)
    assert (found.subject, found.verdict) == ("reachable", "error") and len(found.says) > 5


@pytest.mark.parametrize(
    ("setting", "subject"),
    [("synchronous_commit = off", "synchronous_commit"), ("default_transaction_read_only = on", "role")],
)
async def test_a_setting_that_loses_money_or_calls_is_an_error(
    database_url: str, settings: Settings, sql: asyncpg.Connection, setting: str, subject: str
) -> None:
    await sql.execute(f"ALTER DATABASE {_name(database_url)} SET {setting}")
    assert (await looked(database_url, settings))[subject].verdict == "error"


async def test_notices_that_are_not_passed_on_are_an_error(
    database_url: str, settings: Settings, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that gives each transaction another connection."""
    monkeypatch.setattr(check_database, "_HEARD_S", 0.3)
    await sql.execute("CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''")
    await sql.execute(f"ALTER DATABASE {_name(database_url)} SET search_path = public, pg_catalog")
    found = (await looked(database_url, settings))["notices"]
    assert found.verdict == "error" and "pooler" in found.says


async def test_a_schema_that_is_not_this_releases_is_told(
    database_url: str, empty_database_url: str, settings: Settings, sql: asyncpg.Connection
) -> None:
    assert await schema_is_current(database_url) and not await schema_is_current(empty_database_url)
    empty = await looked(empty_database_url, settings)
    assert empty["schema"].verdict == "warning" and "pepper" not in empty
    await downgrade(database_url, 1)
    assert (await looked(database_url, settings))["schema"].verdict == "warning"
    await sql.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = (await looked(database_url, settings))["schema"]
    assert newer.verdict == "error" and "a newer Farebox" in newer.says


async def test_months_that_are_missing_and_rows_outside_theirs_are_told(
    database_url: str, settings: Settings, sql: asyncpg.Connection
) -> None:
    months = await sql.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 months', 'YYYYMM')")
    await sql.execute(f"DROP TABLE postings_{months}")
    found = (await looked(database_url, settings))["months ahead"]
    assert found.verdict == "warning" and f"postings_{months}" in found.says
    entry = "INSERT INTO journal_entries (id, kind, ref, booked_at) VALUES (uuid7_floor($1), 'grant', 'x', $1)"
    await sql.execute(entry, datetime(2001, 1, 1, tzinfo=UTC))
    assert "journal_entries" in (await looked(database_url, settings))["months"].says


async def test_too_few_connections_are_told(database_url: str, data_dir: Path) -> None:
    bank = {"pool_size": 200}
    greedy = house.settings(data_dir, database_url, "redis://127.0.0.1:1", bank=bank)
    found = (await looked(database_url, greedy))["connections"]
    assert found.verdict == "warning" and "a process takes up to 212" in found.says
    there = {"url": "http://chat.example", "admin_key": "sk-" + "a" * 32}
    synced = house.settings(data_dir, database_url, "redis://127.0.0.1:1", bank=bank, openwebui=there)
    assert "a process takes up to 215" in (await looked(database_url, synced))["connections"].says


@pytest.mark.parametrize(("known", "verdict"), [(PEPPER, "ok"), ("another pepper, which is long enough", "error")])
async def test_a_pepper_that_is_another_ones_is_an_error(
    database_url: str, settings: Settings, sql: asyncpg.Connection, known: str, verdict: str
) -> None:
    row = "INSERT INTO secret_fingerprints VALUES ('key_pepper', $1)"
    await sql.execute(row, fingerprint(known.encode()))
    assert (await looked(database_url, settings))["pepper"].verdict == verdict


async def test_a_pepper_is_found_in_the_data_folder_and_never_made_there(
    database_url: str, data_dir: Path, sql: asyncpg.Connection
) -> None:
    unset = house.settings(data_dir, database_url, "redis://127.0.0.1:1", key_pepper=None)
    await sql.execute("INSERT INTO secret_fingerprints VALUES ('key_pepper', $1)", fingerprint(b"kept"))
    assert (await looked(database_url, unset))["pepper"].verdict == "error"
    assert list(data_dir.iterdir()) == []
    (data_dir / "key_pepper").write_text("kept\n")
    assert (await looked(database_url, unset))["pepper"].verdict == "ok"


async def test_looking_changes_nothing(database_url: str, settings: Settings, sql: asyncpg.Connection) -> None:
    await look_at_database(database_url, settings)
    assert await sql.fetchval("SELECT count(*) FROM secret_fingerprints") == 0
    assert await sql.fetchval("SELECT count(*) FROM tiers") == 0


def test_what_is_told_of_connections_is_what_a_process_opens() -> None:
    pools = (gateway_app._ACCOUNTS_POOL, gateway_app._READING_POOL, admin_app._POOL)
    assert sum(pools) + 2 == check_database._CONNECTIONS_BESIDE, "the roller's and the watcher's beside them"
    assert check_database._CONNECTIONS_OF_SYNCS == opening._POOL
