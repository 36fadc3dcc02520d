"""Brings a database's schema up, down, or says where it stands. The steps themselves are the room `migrations`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

import migrations

_ADVISORY_KEY = 0x66617265626F78  # "farebox": the same in every release, or two releases would not see each other
_TURN_SECONDS = 1800.0  # another one may be building indexes on a large ledger
# Whoever comes after a step that waits for a lock waits with it: no longer than this, and then again a while later.
_LOCK_TIMEOUT_MS = 500
_LOCK_TRIES = 120
_LOCK_PAUSE_SECONDS = 1.0
_LOCKED_BY_OTHERS = ("55P03", "40P01", "57014")  # lock not available, deadlock, locks not together in time
_SAID_BY_A_STEP = "P0001"  # it cannot be done on this database, and the message says why

_OLDEST = """
    SELECT format('%s (process %s) for %s s', coalesce(nullif(application_name, ''), usename), pid,
                  extract(epoch FROM clock_timestamp() - xact_start)::int)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    ORDER BY xact_start LIMIT 1
"""

State = Literal["current", "behind", "unknown", "empty"]


class MigrationError(RuntimeError):
    """The schema cannot be brought where it was asked to be; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a database's schema stands. `unknown`: its revision is none of ours, so a newer release made it."""

    current: str | None
    head: str
    state: State

    @property
    def sentence(self) -> str:
        match self.state:
            case "current":
                return f"The schema is current ({self.head})."
            case "empty":
                return f"The database has no schema yet; `farebox migrate up` brings it to {self.head}."
            case "behind":
                return f"The schema is at {self.current} and this release needs {self.head}: run `farebox migrate up`."
            case "unknown":
                return (
                    f"The schema is at {self.current}, which this release does not know (it knows up to {self.head}): "
                    "a newer Farebox has migrated this database. Start that release, or migrate down with it first."
                )


async def status(database_url: str) -> Status:
    """Where the schema stands; changes nothing. Raises SQLAlchemy's or the driver's errors if it cannot connect."""
    async with _connect(database_url) as connection:
        return await connection.run_sync(_status)


async def upgrade(database_url: str, to: str = "head") -> None:
    """Run the steps that are missing (up to one of them); nothing to do is no error. Safe when several replicas start
    together.

    Raises MigrationError if the schema is a newer release's, or if a lock in the database could not be had in time.
    """
    async with _turn(database_url) as connection:
        await _patiently(connection, lambda config: command.upgrade(config, to))


async def downgrade(database_url: str, steps: int | None = 1) -> None:
    """Undo the last `steps` steps, or all of them (None).

    Raises MigrationError as `upgrade` does, and if there are fewer steps to undo.
    """
    async with _turn(database_url) as connection:
        target = "base" if steps is None else await connection.run_sync(_below, steps)
        await _patiently(connection, lambda config: command.downgrade(config, target))


@contextlib.asynccontextmanager
async def _connect(database_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def _turn(database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that alone may migrate: the others wait, then find nothing left to do.

    The lock belongs to the session, so it outlives each step's transaction and ends with the connection, however
    that ends. Behind a pooler in transaction mode sessions are shared: migrate over a direct connection there.
    """
    async with _connect(database_url) as connection:
        await _take_turn(connection)
        await connection.execute(text(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}"))
        await connection.commit()
        found = await connection.run_sync(_status)
        if found.state == "unknown":
            raise MigrationError(found.sentence)
        yield connection


async def _take_turn(connection: AsyncConnection) -> None:
    question = text("SELECT pg_try_advisory_lock(:key)")
    deadline = asyncio.get_running_loop().time() + _TURN_SECONDS
    while not await connection.scalar(question, {"key": _ADVISORY_KEY}):
        await connection.rollback()  # an idle open transaction would hold back vacuum while we wait
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError(f"Another process has been migrating this database for {_TURN_SECONDS:.0f} s.")
        await asyncio.sleep(0.1)


async def _patiently(connection: AsyncConnection, run: Callable[[Config], None]) -> None:
    for tries_left in reversed(range(_LOCK_TRIES)):
        try:
            await connection.run_sync(_run, run)
            return
        except DBAPIError as error:
            await connection.rollback()
            state = getattr(error.orig, "sqlstate", None)
            if state == _SAID_BY_A_STEP:
                raise MigrationError(_said(error)) from None
            if state not in _LOCKED_BY_OTHERS:
                raise
            if not tries_left:
                raise MigrationError(await _locked(connection, error)) from error
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)


def _said(error: DBAPIError) -> str:
    """The database's own words."""
    return str(error.orig.args[0] if error.orig else error).rpartition("'>: ")[2]


async def _locked(connection: AsyncConnection, error: DBAPIError) -> str:
    oldest = await connection.scalar(text(_OLDEST))
    await connection.rollback()
    hint = f" The oldest transaction is that of {oldest}." if oldest else ""
    return (
        f"A step found its tables locked {_LOCK_TRIES} times: {error.orig}.{hint} What is done stays done: try again."
    )


def _run(connection: Connection, run: Callable[[Config], None]) -> None:
    config = _config()
    config.attributes["connection"] = connection
    run(config)
    connection.commit()


def _config() -> Config:
    config = Config()
    # The package's own folder, so that an installed wheel works from anywhere; "%" is the ini format's escape.
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def all_steps() -> list[str]:
    """Every revision, the first one first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def _status(connection: Connection) -> Status:
    current, steps = MigrationContext.configure(connection).get_current_revision(), all_steps()
    connection.rollback()  # a question leaves no transaction open
    return Status(current, steps[-1], _state(current, steps))


def _state(current: str | None, steps: list[str]) -> State:
    if current is None:
        return "empty"
    if current not in steps:
        return "unknown"
    return "current" if current == steps[-1] else "behind"


def _below(connection: Connection, count: int) -> str:
    current, steps = _status(connection).current, all_steps()
    done = 0 if current is None else steps.index(current) + 1
    if not 1 <= count <= done:
        raise MigrationError(f"There are {done} steps to undo, and {count} were asked for.")
    return steps[done - count - 1] if count < done else "base"
