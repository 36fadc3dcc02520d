"""The measuring itself, on a ledger of a few calls: it goes down and up under load, and says what was waited for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from config.watch import driver_options
from farebox.migrate import status
from tests.migrations.waits import Waits

pytestmark = pytest.mark.long


async def _measured(url: str, *words: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.migrations.under_load", "--database-url", url, "--settle", "0.3", *words],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(300)
async def test_it_goes_down_and_up_while_bookings_go_on_and_keeps_a_bound(database_url: str) -> None:
    small = ("--charges", "50", "--users", "5")
    code, said, error = await _measured(database_url, *small, "--to", "0004", "--bound", "60", "--verify")
    assert (code, error) == (0, ""), said
    assert "down from 0005" in said and "up to 0005" in said and "calls through the bank" in said
    assert "I14" in said and "BROKEN" not in said
    code, said, _ = await _measured(database_url, *small, "--to", "0008", "--bound", "0")
    assert code == 1 and said.splitlines()[-1].startswith("longest: ") and said.endswith("bound 0.0 s\n")
    assert (await status(database_url)).state == "current"


async def test_the_longest_wait_is_that_of_a_statement_or_for_a_lock(database_url: str) -> None:
    waits = Waits(database_url)
    waits.label = "step"
    for seconds in (0.1, 0.3, 0.2):
        waits.tell("hold", seconds)
    waits.took(1.5)
    assert waits.longest == 0.3
    [_, line] = waits.table()
    assert line.split() == ["step", "1.5", "3", "200.0", "300.0", "300.0", "0.0"]


async def test_waits_for_locks_are_seen_while_they_last(database_url: str) -> None:
    waits = Waits(database_url)
    waits.label = "step"
    ours = await asyncpg.connect(**driver_options(database_url))
    load = await asyncpg.connect(**driver_options(database_url), server_settings={"application_name": "farebox load"})
    async with waits.watching(), ours.transaction():
        await ours.execute("LOCK TABLE wallets")
        await load.execute("SET lock_timeout = '400ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await load.fetchval("SELECT count(*) FROM wallets")
    assert 0.1 < waits.longest < 5
    await ours.close()
    await load.close()
