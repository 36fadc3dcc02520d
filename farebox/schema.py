"""The schema, as a process that serves needs it: brought up at the start.

Where nothing is missing, and that is nearly always so, one question says it: Alembic, which a gateway would else keep
in memory for months, is loaded only for a step to take.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import migrations


async def bring_up(database_url: str) -> None:
    """Run the steps that are missing. Raises what ``migrate.upgrade`` raises."""
    if await _stands_at(database_url) != newest():
        from farebox.migrate import upgrade

        await upgrade(database_url)


def newest() -> str:
    """The last step's revision: the number its file begins with."""
    steps = Path(migrations.__file__).parent.joinpath("versions").glob("[0-9]*_*.py")
    return max(step.name.partition("_")[0] for step in steps)


async def _stands_at(database_url: str) -> str | None:
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    except ProgrammingError:
        return None  # no such table: a database without a schema
    finally:
        await engine.dispose()
