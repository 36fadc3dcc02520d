"""Embedded engines of a test's own folder: started, asked, and looked for among the processes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from farebox.engines import Engines


def start(folder: Path, *, postgres: bool = True, redis: bool = False) -> Engines:
    """Engines that skip fsync."""
    return Engines.start(folder, postgres=postgres, redis=redis, durable=False)


async def ask(url: str, question: str) -> object:
    """What the database answers; None where it answers nothing."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        result = await connection.execute(text(question))
        answer: object = result.scalar_one() if result.returns_rows else None
    await engine.dispose()
    return answer


def postmaster(folder: Path) -> int:
    """The number of the process that runs the database."""
    return int((folder / "postgres" / "postmaster.pid").read_text().partition("\n")[0])
