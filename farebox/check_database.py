"""The doctor's look at the database: can it be used, is it fit for money, is its schema ours, are changes heard of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import asyncpg

from accounts.keys import fingerprint
from config.settings import Settings
from config.watch import driver_options
from farebox import migrate
from farebox.findings import Found, Verdict
from ledger.months import PARENTS

_AREA = "database"
_CONNECT_S = 5.0
_COMMAND_S = 10.0
_HEARD_S = 3.0
_VERSION_LEAST = 150_000
_MONTHS_AHEAD = 2
_CLOCK_WARNING_S, _CLOCK_ERROR_S = 1.0, 30.0
# What one process opens beside the bank's pool: 4 for accounts and catalogue, 4 for the admin API, 2 for what callers
# read of themselves, one that counts charges into the statistics, one that listens; and with an Open WebUI its syncs.
_CONNECTIONS_BESIDE = 12
_CONNECTIONS_OF_SYNCS = 3

_MISSING_MONTHS = """
    WITH months AS (
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead) AS month
        FROM generate_series(0, $2) AS ahead
    )
    SELECT parent || to_char(month, '_YYYYMM') AS child FROM months, unnest($1::text[]) AS parent
    WHERE to_regclass(parent || to_char(month, '_YYYYMM')) IS NULL ORDER BY month, parent
"""
_CONNECTIONS = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS room,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
"""

Look = Callable[[asyncpg.Connection, Settings], AsyncIterator[Found]]


async def look_at_database(url: str, settings: Settings) -> list[Found]:
    """Everything that is to be said of it; reads only."""
    try:
        connection = await asyncpg.connect(**driver_options(url), timeout=_CONNECT_S, command_timeout=_COMMAND_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [Found(_AREA, "reachable", "error", f"no: {error or type(error).__name__}")]
    try:
        found = [each for look in _LOOKS async for each in look(connection, settings)]
        return [*found, *await _schema(connection, url, settings)]
    finally:
        connection.terminate()


async def schema_is_current(url: str) -> bool:
    """Whether the tables are those of this release."""
    return (await migrate.status(url)).state == "current"


async def _version(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    version = str(await connection.fetchval("SHOW server_version")).partition(" ")[0]
    fit = int(await connection.fetchval("SHOW server_version_num")) >= _VERSION_LEAST
    said = f"Postgres {version}" + ("" if fit else "; Farebox needs 15 or newer")
    yield Found(_AREA, "reachable", "ok" if fit else "error", said)


async def _writable(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        yield Found(_AREA, "role", "error", "this is a standby, which cannot be written")
    elif await connection.fetchval("SHOW default_transaction_read_only") == "on":
        yield Found(_AREA, "role", "error", "transactions are read-only here")
    else:
        yield Found(_AREA, "role", "ok", "can be written")
    if (encoding := await connection.fetchval("SHOW server_encoding")) != "UTF8":
        yield Found(_AREA, "encoding", "error", f"{encoding}, and names need UTF8")


async def _durability(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    """A commit that is not on disk is money that may be lost."""
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        value = await connection.fetchval(f"SHOW {name}")
        if value == "off":
            yield Found(_AREA, name, "error", "off: a crash loses commits, or the whole database")
        else:
            yield Found(_AREA, name, "ok", value)
    if settings.database_url is not None and await connection.fetchval("SHOW archive_mode") == "off":
        said = "archive_mode is off: without point-in-time recovery a restore loses what came after the last dump"
        yield Found(_AREA, "backup", "warning", said)


async def _clock(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    before, asked = datetime.now(UTC), time.monotonic()
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    trip = time.monotonic() - asked
    apart = max(0.0, abs((theirs - before).total_seconds() - trip / 2) - trip / 2)
    verdict: Verdict = "error" if apart > _CLOCK_ERROR_S else "warning" if apart > _CLOCK_WARNING_S else "ok"
    yield Found(_AREA, "clock", verdict, f"{apart:.1f} s from ours")


async def _connections(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    row = await connection.fetchrow(_CONNECTIONS)
    each = settings.bank.pool_size + _CONNECTIONS_BESIDE + _CONNECTIONS_OF_SYNCS * settings.openwebui.syncs
    verdict: Verdict = "warning" if row["room"] < each else "ok"
    yield Found(_AREA, "connections", verdict, f"{row['used']} of {row['room']} in use; a process takes up to {each}")


async def _notices(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Found]:
    """Whether what one connection tells another hears: a pooler in transaction mode does not pass it on."""
    heard = asyncio.Event()
    channel = "farebox_doctor"
    await connection.add_listener(channel, lambda *_: heard.set())
    await connection.execute("SELECT pg_notify($1, '')", channel)
    try:
        async with asyncio.timeout(_HEARD_S):
            while not heard.is_set():
                await connection.execute("SELECT 1")  # a notice comes with the next word of the server
                await asyncio.sleep(0.02)
    except TimeoutError:
        said = "LISTEN hears nothing: connect directly, or through a pooler in session mode"
        yield Found(_AREA, "notices", "error", said)
    else:
        yield Found(_AREA, "notices", "ok", "are heard")


async def _schema(connection: asyncpg.Connection, url: str, settings: Settings) -> list[Found]:
    status = await migrate.status(url)
    if status.state == "unknown":
        return [Found(_AREA, "schema", "error", status.sentence)]
    if status.state != "current":
        return [Found(_AREA, "schema", "warning", f"{status.sentence} `farebox serve` does it by itself.")]
    current = Found(_AREA, "schema", "ok", status.sentence)
    return [current, *await _partitions(connection), await _pepper(connection, settings)]


async def _partitions(connection: asyncpg.Connection) -> list[Found]:
    missing = [row["child"] for row in await connection.fetch(_MISSING_MONTHS, list(PARENTS), _MONTHS_AHEAD)]
    strays = [name for name in PARENTS if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {name}_default)")]
    found = []
    if missing:
        said = f"missing: {', '.join(missing)}; a running Farebox makes them"
        found.append(Found(_AREA, "months ahead", "warning", said))
    if strays:
        said = f"rows of {', '.join(strays)} stand in the default partition: `farebox partitions home` moves them"
        found.append(Found(_AREA, "months", "warning", said))
    return found or [Found(_AREA, "months ahead", "ok", f"this one and {_MONTHS_AHEAD} more")]


async def _pepper(connection: asyncpg.Connection, settings: Settings) -> Found:
    """Whether keys made by other processes would be accepted by this one."""
    known = await connection.fetchval("SELECT fingerprint FROM secret_fingerprints WHERE name = 'key_pepper'")
    ours = await asyncio.to_thread(_own_pepper, settings)
    if known is None:
        return Found(_AREA, "pepper", "note", "no Farebox has run on this database yet")
    if ours is None:
        said = "FAREBOX_KEY_PEPPER is not set, and keys here were made with one: give this process the same"
        return Found(_AREA, "pepper", "error", said)
    if fingerprint(ours) != known:
        return Found(_AREA, "pepper", "error", "FAREBOX_KEY_PEPPER is not the one that keys here were made with")
    return Found(_AREA, "pepper", "ok", "the one that keys here were made with")


def _own_pepper(settings: Settings) -> bytes | None:
    """The setting, else the one in the data folder; none is made."""
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    path = settings.data_dir / "key_pepper"
    return path.read_text("ascii").strip().encode() if path.exists() else None


_LOOKS: tuple[Look, ...] = (_version, _writable, _durability, _clock, _connections, _notices)
