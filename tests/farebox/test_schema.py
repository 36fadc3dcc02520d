"""A process that serves brings the schema up, and holds on to nothing that is needed for that alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import text

from farebox.migrate import MigrationError, all_steps, status
from farebox.schema import bring_up, newest
from ledger.store_sql import make_engine


def test_the_newest_step_is_alembics_head() -> None:
    assert newest() == all_steps()[-1]


async def test_an_empty_database_gets_its_schema_and_a_current_one_keeps_it(empty_database_url: str) -> None:
    for _ in range(2):
        await bring_up(empty_database_url)
        assert (await status(empty_database_url)).state == "current"


async def test_a_newer_releases_database_is_refused(database_url: str) -> None:
    engine = make_engine(database_url, size=1, name="test")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(MigrationError, match="newer Farebox"):
        await bring_up(database_url)


def test_what_serves_has_not_loaded_alembic() -> None:
    question = "import farebox.serve, farebox.workers, sys; sys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", question], check=True)
