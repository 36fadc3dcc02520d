"""Parts of the gateway put together for a test without its server: a catalogue, an admitter, principals, requests.

What tests say of surfaces and requests goes through here, so that a change of theirs is a change of this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.standing import Standing, stand
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog import Catalog
from config.catalog_file import read_catalog
from config.catalog_sql import load, seed
from gateway.admission import Admission, Admitter
from gateway.counting import Counting
from gateway.order import Candidate, Order
from gateway.surface import Surface
from gateway.surfaces import SURFACES
from gateway.terms import terms_of
from gateway.tokens import Tokenizers
from ledger.hold import Settlement
from ledger.ids import uuid7
from ledger.money import parse_usd
from ledger.store_sql import PostgresBank
from ledger.teller import Teller
from policies.buckets import Buckets
from policies.buckets_memory import BucketsMemory
from policies.estimate import RunningP90, RunningRatio
from policies.principal import Principal
from policies.task import TaskRule
from policies.tier import Tier
from tests.house import CATALOG, PEPPER

CHAT, EMBEDDINGS = (
    next(each for each in SURFACES if each.route == name) for name in ("chat.completions", "embeddings")
)
FREE_OF_CHARGE = next(each for each in SURFACES if each.free)
URL = "https://fare.example/pricing"


def order_of(
    who: Principal,
    tier: Tier,
    candidates: tuple[Candidate, ...],
    reserve: int = 16,
    surface: Surface = CHAT,
    rule: TaskRule | None = None,
) -> Order:
    """A call of these candidates, as the rules see it; an answer of 16 tokens is worth beginning."""
    terms = terms_of(Catalog(), tier, who.limits, surface, candidates[0].model, URL, rule, task=who.task != "")
    return Order(who, terms, candidates, reserve, 16)


def chat_request(content: Any = "hello", **more: Any) -> Any:
    """A chat request as the surface reads it."""
    body = {"model": "small", "messages": [{"role": "user", "content": content}], **more}
    return CHAT.parse(msgspec.json.encode(body), "application/json")


def embeddings_request(given: Any = "hello", **more: Any) -> Any:
    """A request for embeddings as the surface reads it."""
    return EMBEDDINGS.parse(msgspec.json.encode({"model": "embed", "input": given, **more}), "application/json")


def principal_of(user: User, **more: Any) -> Principal:
    """The user as a caller in its own tier, whether or not there is one of that name."""
    return Principal(
        user.id,
        user.wallet_id,
        user.realm,
        user.subject,
        user.email,
        user.name,
        user.role,
        user.tier,
        user.status,
        user.language,
        **{"chat_id": "chat-1", **more},
    )


def standing_of(catalog: Catalog, default_tier: str = "free") -> Callable[[User], Awaitable[Standing]]:
    """Where users stand by this catalogue, now."""

    async def of(user: User) -> Standing:
        return stand(user, catalog, default_tier, datetime.now(UTC))

    return of


async def catalog_of(engine: AsyncEngine, more: str = "", backend_url: str = "http://127.0.0.1:9/v1") -> Catalog:
    """The usual catalogue of the tests, and what ``more`` adds in TOML, as the database gives it back."""
    tables = tomllib.loads(CATALOG.format(backend=backend_url) + more, parse_float=Decimal)
    await seed(engine, read_catalog(tables))
    return await load(engine)


class Counter:
    """An admitter with everything it asks: the real bank, windows in memory."""

    def __init__(self, engine: AsyncEngine, catalog: Catalog, tokenizers: Tokenizers) -> None:
        self.accounts = Accounts(engine, pepper=PEPPER.encode(), default_tier="free")
        self.bank = PostgresBank(engine, owner="test")
        self.buckets: Buckets = BucketsMemory()
        self.regrets: list[Settlement] = []
        self.teller = Teller(self.bank, regret=self.regrets.append, patience_s=30)
        self.output_seen = RunningP90()
        self.input_seen = RunningRatio()
        self.catalog = catalog
        self.counting = Counting(tokenizers)

    def admitter(self, **other: Any) -> Admitter:
        """``other`` takes the place of a part."""
        parts: dict[str, Any] = {
            "catalog": lambda: self.catalog,
            "buckets": self.buckets,
            "teller": self.teller,
            "bank": self.bank,
            "counting": self.counting,
            "output_seen": self.output_seen,
            "input_seen": self.input_seen,
            "default_tier": "free",
            "upgrade_url": URL,
        }
        return Admitter(**{**parts, **other})

    async def person(self, tier: str = "paid", usd: str = "10.00", **more: Any) -> Principal:
        """A user of this tier with so much paid in; ``more`` as in ``Principal``."""
        user = await self.accounts.create_user(name="Ada", tier=tier)
        if amount := parse_usd(usd):
            await self.bank.credit(user.wallet_id, amount, "paid", source="test", funding="cash:test")
        return principal_of(user, **more)

    async def admitted(self, who: Principal, request: Any, *, key: str = "", **other: Any) -> Admission:
        """One call through the gate. Raises Refusal."""
        surface = EMBEDDINGS if request.model == "embed" else CHAT
        return await self.admitter(**other).admit(surface, request, who, uuid7(), key)


App = Callable[..., Awaitable[None]]


async def asked(app: App, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Any:
    """One request to an ASGI application, without a socket: status, headers, decoded body."""
    sent: list[dict[str, Any]] = []
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": pairs,
        "server": ("house", 80),
        "scheme": "http",
        "root_path": "",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    body = b"".join(message.get("body", b"") for message in rest)
    kept = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], kept, msgspec.json.decode(body) if kept["content-type"] == "application/json" else body
