"""A real `farebox serve` in a process of its own, for stories that signal or kill it; and the other commands."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
from pydantic import SecretStr

from accounts.store_sql import Accounts
from farebox.serve import AdminKey, Running, Urls
from gateway.app import Gateway
from ledger.store_sql import PostgresBank, make_engine
from tests.house import ADMIN_KEY, CATALOG, PEPPER, Farebox

_START_S = 120.0


def environment(data_dir: Path, database_url: str, redis_url: str, backend_url: str, **more: str) -> dict[str, str]:
    """The environment of a command on these engines, with the usual catalogue; ``more`` are settings (``BIND``, …)."""
    config = data_dir.with_name("farebox.toml")
    config.write_text(CATALOG.format(backend=backend_url))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    ours = {
        "CONFIG": str(config),
        "BIND": "127.0.0.1:0",
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "KEY_PEPPER": PEPPER,
        "ADMIN_KEY": ADMIN_KEY,
        "BANK__BEAT_S": "0.5",
        "BANK__HOLD_TTL_S": "15",
        "BANK__POOL_SIZE": "6",
        "BANK__STATEMENT_TIMEOUT_S": "30",
        "REDIS__CONNECT_TIMEOUT_S": "10",
        "REDIS__TIMEOUT_S": "10",
    }
    return kept | {f"FAREBOX_{name}": value for name, value in {**ours, **more}.items()}


async def command(env: Mapping[str, str], *words: str) -> tuple[int, str, str]:
    """Run `farebox …` to its end: exit code, standard output, standard error."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "farebox", *words],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout, done.stderr


def running_at(url: str, gateway: Gateway, urls: Urls) -> Running:
    """What is known of a Farebox that runs elsewhere."""
    return Running(
        url=url,
        metrics_url=f"{url}/metrics",
        admin_url=f"{url}/admin/api",
        admin_key=AdminKey(SecretStr(ADMIN_KEY)),
        gateway=gateway,
        urls=urls,
    )


class Reach(Farebox):
    """The ledger and an HTTP client, wherever the gateway runs."""

    async def settled(self, within_s: float = 30.0) -> None:
        """Wait until no hold is open."""
        async with asyncio.timeout(within_s):
            while await self.rows("SELECT 1 FROM holds WHERE state = 'open'"):
                await asyncio.sleep(0.05)


class Served(Reach):
    """A Farebox in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, within: Farebox) -> None:
        run = running_at(url, within.run.gateway, within.run.urls)
        super().__init__(run, within.engine, within.accounts, within.bank, within.http)
        self.process = process

    async def ended(self, within_s: float = 30.0) -> int:
        """Wait for the process to end; its exit code."""
        return await asyncio.to_thread(self.process.wait, within_s)


@asynccontextmanager
async def reach(database_url: str) -> AsyncIterator[Reach]:
    """The ledger and an HTTP client, with no gateway yet."""
    engine = make_engine(database_url, size=3, command_timeout_s=60, name="test")
    accounts = Accounts(engine, pepper=PEPPER.encode(), default_tier="free")
    bank = PostgresBank(engine, owner="test")
    nobody = running_at("", cast(Gateway, None), Urls(database_url, ""))
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
            yield Reach(nobody, engine, accounts, bank, http)
    finally:
        await engine.dispose()


@asynccontextmanager
async def served(env: Mapping[str, str], within: Farebox, *words: str) -> AsyncIterator[Served]:
    """`farebox serve` with this environment, once it serves; killed at the end if it still runs."""
    logs = Path(env["FAREBOX_DATA_DIR"]).with_name(f"log-{os.urandom(4).hex()}")
    out, err = logs.with_suffix(".out"), logs.with_suffix(".err")
    process = await asyncio.to_thread(_start, env, words, out, err)
    try:
        yield Served(process, await _address(process, out, err), within)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _start(env: Mapping[str, str], words: Sequence[str], out: Path, err: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as to_out, err.open("wb") as to_err:
        serve = [sys.executable, "-m", "farebox", "serve", *words]
        return subprocess.Popen(serve, env=dict(env), stdout=to_out, stderr=to_err)


async def _address(process: subprocess.Popen[bytes], out: Path, err: Path) -> str:
    async with asyncio.timeout(_START_S):
        while True:
            found = re.search(r"serves at (http://\S+)/v1", out.read_text())
            if found:
                return found[1]
            if process.poll() is not None:
                raise AssertionError(f"farebox serve ended with {process.returncode}: {err.read_text()[-2000:]}")
            await asyncio.sleep(0.02)
