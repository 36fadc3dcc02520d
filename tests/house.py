"""A whole Farebox for tests: real engines, real sockets, a real backend; nothing in between is replaced.

``Farebox`` runs in the test's own event loop, so a test can look inside; what it sends goes over loopback sockets.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import aiohttp
import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import FORWARD_USERS
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog_file import read_catalog
from config.settings import Settings
from config.toml_file import CATALOG_KEYS
from farebox.serve import Running, running
from ledger.money import parse_usd
from ledger.store_sql import PostgresBank, make_engine
from ledger.teller import Teller
from ledger.verify import Finding, drained, verify

PEPPER = "pepper-for-tests-0123456789abcdef0123456789"
ADMIN_KEY = "admin-key-for-tests-0123456789"
PERSONAL = "https://fare.example/account?token="
"""Where somebody is sent who wants more, with a token behind it."""

CATALOG = """
[[upstreams]]
name = "main"
base_url = "{backend}"
api_key_env = "FAREBOX_TEST_UPSTREAM_KEY"
allow_private = true

[[models]]
id = "small"
upstream = "main"
max_output = 4096
prices = {{ input = "0.15", cache_read = "0.075", output = "0.60" }}

[[models]]
id = "large"
upstream = "main"
prices = {{ input = "2.50", output = "10.00" }}

[[models]]
id = "flat"
upstream = "main"
prices = {{ per_request = "0.01" }}

[[models]]
id = "unpriced"
upstream = "main"

[[models]]
id = "embed"
upstream = "main"
kind = "embedding"
prices = {{ input = "0.02" }}

[[tiers]]
name = "free"
models = ["small", "flat"]
features = ["images"]
allowance = {{ usd = "0.10", every = "month", zone = "UTC" }}
upgrade_to = "pro"

[[tiers]]
name = "paid"
models = ["*"]
upgrade_to = "pro"

[[tiers]]
name = "pro"

[[tiers]]
name = "admin"
unlimited = true
"""


@dataclass(slots=True)
class Caller:
    """A user with a key, as a client holds it."""

    user: User
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@dataclass(slots=True)
class Answer:
    """A whole reply: status, headers (lower-case names), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json()["error"]  # type: ignore[no-any-return]


class Admin:
    """A client of the admin API, with the admin key or another bearer (None: without any)."""

    def __init__(self, http: aiohttp.ClientSession, url: str, bearer: str | None = ADMIN_KEY) -> None:
        self.http = http
        self.url = url
        self.bearer = bearer

    def bearing(self, bearer: str | None) -> Admin:
        """The same client as somebody else."""
        return Admin(self.http, self.url, bearer)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        match: str | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """One request under ``/admin/api/v1``. ``body`` as in ``Farebox.post``; ``key`` is the Idempotency-Key,
        ``match`` the If-Match."""
        sent = {"authorization": f"Bearer {self.bearer}"} if self.bearer is not None else {}
        sent |= {"idempotency-key": key} if key is not None else {}
        sent |= {"if-match": match} if match is not None else {}
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        sent |= {"content-type": "application/json"} if data is not None else {}
        params = {name: str(value) for name, value in query.items() if value is not None}
        url = f"{self.url}/v1{path}"
        async with self.http.request(
            method, url, data=data, headers=sent | dict(headers or {}), params=params
        ) as reply:
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("POST", path, body, **more)

    async def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("PUT", path, body, **more)

    async def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("PATCH", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.ask("DELETE", path, **more)

    async def made(self, path: str, body: Any = None, **more: Any) -> Any:
        """What a POST gave that has to succeed."""
        answer = await self.post(path, body, **more)
        assert answer.status in (200, 201), answer.body
        return answer.json()

    async def read(self, path: str, **more: Any) -> Any:
        """What a GET gave that has to succeed."""
        answer = await self.get(path, **more)
        assert answer.status == 200, answer.body
        return answer.json()


class Farebox:
    """A running gateway with its ledger in reach."""

    def __init__(
        self, run: Running, engine: AsyncEngine, accounts: Accounts, bank: PostgresBank, http: aiohttp.ClientSession
    ) -> None:
        self.run = run
        self.url = run.url
        self.engine = engine
        self.accounts = accounts
        self.bank = bank
        self.http = http
        self.admin = Admin(http, run.admin_url)

    # -- people

    async def caller(self, *, tier: str = "paid", usd: str = "10.00", name: str = "Ada") -> Caller:
        """A new user of this tier with so much paid in ("0": nothing), and a key."""
        user = await self.accounts.create_user(name=name, email=f"{name.lower()}@example.org", tier=tier)
        full, _ = await self.accounts.create_key(name="test", user_id=user.id)
        if amount := parse_usd(usd):
            await self.bank.credit(user.wallet_id, amount, "paid", source="test", funding="cash:test")
        return Caller(user, full)

    async def service(self, *, plain_headers: bool = True, realm: str = "open-webui") -> str:
        """The key of a service that forwards its users."""
        full, _ = await self.accounts.create_key(
            name="service", scopes=[FORWARD_USERS], realm=realm, plain_headers=plain_headers
        )
        return full

    # -- calls

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | Caller) -> Answer:
        """One POST, read to its end. ``body``: bytes as they are, anything else as JSON."""
        given = headers.headers if isinstance(headers, Caller) else headers
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.http.post(f"{self.url}{path}", data=data, headers=dict(given)) as reply:
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())

    async def get(self, path: str, headers: Mapping[str, str] | Caller | None = None) -> Answer:
        """One GET."""
        given = headers.headers if isinstance(headers, Caller) else headers or {}
        async with self.http.get(f"{self.url}{path}", headers=dict(given)) as reply:
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())

    async def chat(self, caller: Mapping[str, str] | Caller, content: str = "hello", **more: Any) -> Answer:
        """One chat call; ``more`` goes into the body (model, stream, …)."""
        body = {"model": "small", "messages": [{"role": "user", "content": content}], **more}
        return await self.post("/v1/chat/completions", body, caller)

    # -- the ledger

    async def settled(self, within_s: float = 30.0) -> None:
        """Wait until no call runs and everything is posted."""
        async with asyncio.timeout(within_s):
            while self.run.gateway.running or not await self.run.gateway.flush(0.5):
                await asyncio.sleep(0.01)

    async def rows(self, query: str, **values: Any) -> list[RowMapping]:
        """A look into the database."""
        async with self.engine.connect() as connection:
            return list((await connection.execute(text(query), values)).mappings())

    async def charges(self, user_id: UUID | None = None) -> list[RowMapping]:
        """The charges posted so far, oldest first (everybody's, or one user's)."""
        await self.settled()
        where = "WHERE user_id = :user" if user_id else ""
        values = {"user": user_id} if user_id else {}
        return await self.rows(f"SELECT * FROM charges {where} ORDER BY request_id, rev", **values)

    async def charge(self) -> RowMapping:
        """The only charge there is."""
        (only,) = await self.charges()
        return only

    async def spendable(self, caller: Caller) -> int:
        """What the caller's wallet holds in all, nano-USD."""
        await self.settled()
        (row,) = await self.rows("SELECT spendable FROM wallets WHERE id = :id", id=caller.user.wallet_id)
        return int(row["spendable"])

    async def broken(self) -> list[Finding]:
        """The invariants that do not hold after everything was posted; a good test ends with none."""
        await self.settled()
        findings = [*await verify(self.engine), await drained(self.engine)]
        return [finding for finding in findings if not finding.holds]


def settings(data_dir: Path, database_url: str, redis_url: str, **more: Any) -> Settings:
    """Settings for a test: any port, short beats, and the patience to outlast a process that stands still for seconds;
    ``more`` as in the TOML file."""
    values: dict[str, Any] = {
        "bind": "127.0.0.1:0",
        "public_url": "https://fare.example",
        "data_dir": data_dir,
        "database_url": database_url,
        "redis_url": redis_url,
        "key_pepper": PEPPER,
        "admin_key": ADMIN_KEY,
        "drain_timeout_s": 2,
        "bank": {"beat_s": 0.5, "hold_ttl_s": 15, "pool_size": 6, "statement_timeout_s": 30},
        "redis": {"connect_timeout_s": 10, "timeout_s": 10},
    }
    return Settings(**{**values, **more})


def tokenless(text: str) -> str:
    """The text without the tokens of the links in it."""
    return re.sub(r"(?<=\?token=)[\w-]+", "", text)


@asynccontextmanager
async def farebox(
    data_dir: Path,
    database_url: str,
    redis_url: str,
    backend_url: str,
    *,
    catalog: str = "",
    base: str = CATALOG,
    **more: Any,
) -> AsyncIterator[Farebox]:
    """A Farebox in front of this backend. ``catalog`` is TOML added to the usual one, ``more`` are settings."""
    toml = tomllib.loads(base.format(backend=backend_url) + catalog, parse_float=Decimal)
    chosen = settings(data_dir, database_url, redis_url, **more)
    declared = read_catalog({name: table for name, table in toml.items() if name in CATALOG_KEYS})
    engine = make_engine(database_url, size=3, command_timeout_s=60, lock_timeout_ms=30_000, name="test")
    try:
        async with _patient_with_locks(), running(chosen, declared) as run:
            accounts = Accounts(engine, pepper=PEPPER.encode(), default_tier=chosen.default_tier)
            bank = PostgresBank(engine, owner="test")
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
                yield Farebox(run, engine, accounts, bank, http)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _patient_with_locks() -> AsyncIterator[None]:
    """Who waits for what others have locked waits longer than a process may stand still: of many at once none is
    refused for that alone."""
    with (
        patch.dict(Teller.__init__.__kwdefaults__, patience_s=30.0),
        patch.dict(make_engine.__kwdefaults__, lock_timeout_ms=30_000),
    ):
        yield


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    """Ask again until it holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.02)
