"""Every step down and up again on a large ledger while bookings go on: how long does anybody wait?

    python -m tests.migrations.under_load --charges 5000000
    python -m tests.migrations.under_load --database-url postgresql+asyncpg://… --to 0004 --verify

Without an address an embedded Postgres is started and filled. A database that has users already is taken as it is. Exit
1 if a statement took, or somebody waited for a lock, longer than the bound; or if money is not where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from config.watch import driver_options
from farebox import migrate
from farebox.engines import Engines
from farebox.migrate import downgrade, upgrade
from farebox.seed_data import seed_database
from ledger.engine import make_engine
from ledger.verify import verify
from tests.migrations.bookings import NAME, BankLoad, PlainLoad, open_wallets
from tests.migrations.waits import Waits

_KNOWN_FROM = "0004"
"""The first step whose schema the bank's own code books on."""

_MONEY = """
    SELECT (SELECT sum(spendable) FROM wallets) AS spendable, (SELECT sum(held) FROM wallets) AS held,
           (SELECT sum(remaining) FROM grants) AS grants, (SELECT count(*) FROM charges) AS charges,
           (SELECT sum(amount) FROM charges) AS charged, (SELECT count(*) FROM journal_entries) AS entries,
           (SELECT -sum(amount) FROM postings WHERE wallet_id IS NOT NULL) AS posted
"""


async def run(url: str, *, to: str, bound: float, settle_s: float, verified: bool) -> bool:
    """Go down to this step and up again under load; print what it took. Whether all stayed within the bound."""
    await upgrade(url)
    engine = make_engine(url, size=4, command_timeout_s=60, lock_timeout_ms=30_000, name=NAME)
    waits = Waits(url)
    async with _session(url) as connection:
        wallets, version = await open_wallets(BankLoad(engine, [], 0, waits.tell).bank, connection)
        bank, plain = BankLoad(engine, wallets, version, waits.tell), PlainLoad(url, wallets, version, waits.tell)
        async with waits.watching(), _at_work(bank, plain):
            waits.label = "before"
            await asyncio.sleep(settle_s)
            await _down(url, to, waits, bank)
            await _up(url, waits, bank)
            waits.label = "after"
            await asyncio.sleep(settle_s)
        await engine.dispose()
        print("\n".join(waits.table()), f"\n{bank.calls} calls through the bank, {plain.calls} in plain SQL")
        whole = await _adds_up(connection)
    if verified:
        whole = await _verifies(url) and whole
    print(f"longest: {waits.longest:.3f} s; bound {bound:.1f} s")
    return whole and waits.longest <= bound


async def _down(url: str, to: str, waits: Waits, bank: BankLoad) -> None:
    while (current := (await migrate.status(url)).current) is not None and current > to:
        if current <= _KNOWN_FROM:
            bank.allowed.clear()
            await bank.resting.wait()
        waits.label = f"down from {current}"
        begun = time.monotonic()
        await downgrade(url)
        waits.took(time.monotonic() - begun)


async def _up(url: str, waits: Waits, bank: BankLoad) -> None:
    steps = migrate.all_steps()
    for step in steps[steps.index((await migrate.status(url)).current or steps[0]) + 1 :]:
        waits.label = f"up to {step}"
        begun = time.monotonic()
        await upgrade(url, step)
        waits.took(time.monotonic() - begun)
        if step >= _KNOWN_FROM:
            bank.allowed.set()


async def _adds_up(connection: asyncpg.Connection) -> bool:
    """Whether wallets, grants and postings say the same."""
    row = await connection.fetchrow(_MONEY)
    print(", ".join(f"{name} {value}" for name, value in row.items()))
    return len({row["spendable"], row["grants"], row["posted"]}) == 1 and row["held"] >= 0


async def _verifies(url: str) -> bool:
    engine = make_engine(url, size=1, command_timeout_s=3600, name="farebox verify")
    begun = time.monotonic()
    findings = await verify(engine)
    await engine.dispose()
    for finding in findings:
        print(finding.line())
    print(f"verified in {time.monotonic() - begun:.0f} s")
    return all(finding.holds for finding in findings)


@asynccontextmanager
async def _at_work(*loads: BankLoad | PlainLoad) -> AsyncIterator[None]:
    """The loads run; the first one that fails ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        for load in loads:
            group.create_task(load.run())
        yield
        for load in loads:
            load.going = False


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**driver_options(url))
    try:
        yield connection
    finally:
        await connection.close()


async def fill(url: str, users: int, charges: int) -> None:
    """A ledger of this size, unless the database has users already."""
    await upgrade(url)
    async with _session(url) as connection:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM users)"):
            return
    engine = make_engine(url, size=2, command_timeout_s=3600, lock_timeout_ms=3_600_000, name="farebox bench")
    done = await seed_database(engine, users, charges, progress=lambda _: None)
    await engine.dispose()
    print(done.sentence, flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--database-url", default="", help="postgresql+asyncpg://…; without it an embedded one")
    parser.add_argument("--charges", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--to", default="0003", help="the lowest step gone down to")
    parser.add_argument("--bound", type=float, default=2.0, help="seconds")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds of load before and after")
    parser.add_argument("--verify", action="store_true", help="recompute the invariants at the end")
    return parser.parse_args()


async def _main(asked: argparse.Namespace, url: str) -> bool:
    await fill(url, asked.users, asked.charges)
    return await run(url, to=asked.to, bound=asked.bound, settle_s=asked.settle, verified=asked.verify)


def main() -> Any:
    asked = _asked()
    if asked.database_url:
        return not asyncio.run(_main(asked, asked.database_url))
    with (
        tempfile.TemporaryDirectory(prefix="farebox-under-load-") as folder,
        Engines.start(Path(folder), postgres=True, redis=False) as engines,
    ):
        return not asyncio.run(_main(asked, str(engines.database_url)))


if __name__ == "__main__":
    sys.exit(main())
