"""What may be asked of one's own usage and ledger; the figures themselves are in ``tests/stories``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette

from gateway.account import refused
from gateway.errors import Refusal
from gateway.identity import ServiceKey
from gateway.own import Own, own_routes
from ledger.budget import Budget
from ledger.hold import CallFacts, Outcome, Settlement
from ledger.ids import uuid7
from ledger.money import parse_usd
from ledger.store import HoldAsk
from ledger.store_sql import make_engine
from ledger.usage import Usage, UsageSource
from policies.group import Group
from policies.principal import Principal
from tests.gateway.parts import Counter, asked, catalog_of

NOBODY = "postgresql+asyncpg://nobody@127.0.0.1:9/none"


class Known:
    """An identity that is always this one."""

    def __init__(self, who: Any) -> None:
        self.who = who

    async def identify(self, headers: Any, *scopes: str) -> Any:
        return self.who


def app(who: Any, engine: Any) -> Starlette:
    own = Own(Known(who), engine, lambda: datetime.now(UTC))  # type: ignore[arg-type]
    return Starlette(routes=own_routes(own), exception_handlers={Refusal: refused})


@pytest.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    counter = Counter(engine, await catalog_of(engine), None)  # type: ignore[arg-type]
    counter.engine = engine  # type: ignore[attr-defined]
    yield counter
    await engine.dispose()


async def spent(counter: Counter, who: Principal, wallet: Any, amount: int) -> None:
    facts = CallFacts(who.user_id, "paid", "flat", "chat.completions", chat_id="c")
    ask = HoldAsk(uuid7(), wallet, amount, amount, 1, 1_000_000, facts)
    await counter.bank.open_holds([ask])
    word = Settlement(
        ask.request_id,
        wallet,
        Usage(output=1),
        UsageSource.REPORTED,
        amount,
        1,
        1_000_000,
        Outcome.COMPLETED,
        datetime.now(UTC),
        facts,
    )
    await counter.bank.close([word])


async def test_of_a_shared_wallet_everybody_sees_their_own_calls(counter: Counter) -> None:
    ada, bob = await counter.person(), await counter.person()
    team = Group(uuid4(), "Team", ada.wallet_id, shared=True, member_cap=Budget(10**9))
    members = [Principal(**{**_fields(who), "wallet_id": ada.wallet_id, "group": team}) for who in (ada, bob)]
    for who, amount in zip(members, (1000, 7000), strict=True):
        await spent(counter, who, ada.wallet_id, parse_usd("0.000001") * amount // 1000)
    for who, posted in zip(members, ("-0.000001", "-0.000007"), strict=True):
        _, _, body = await asked(app(who, counter.engine), "/v1/account/ledger")  # type: ignore[attr-defined]
        assert [(line["kind"], line["amount"]) for line in body["data"]] == [("charge", posted)]
        _, _, body = await asked(app(who, counter.engine), "/v1/account/usage")  # type: ignore[attr-defined]
        assert [(row["calls"], row["cost"]) for row in body["data"]] == [(1, posted.removeprefix("-"))]


def _fields(who: Principal) -> dict[str, Any]:
    return {name: getattr(who, name) for name in who.__struct_fields__}


@pytest.mark.parametrize("path", ["/v1/account/usage", "/v1/account/ledger"])
async def test_a_service_that_names_no_user_and_a_bank_that_is_away_are_told(path: str) -> None:
    status, _, body = await asked(app(ServiceKey(uuid4(), "s", ()), None), path)
    assert (status, body["error"]["code"]) == (401, "identity_missing")
    engine = make_engine(NOBODY, size=1)
    who = Principal(uuid4(), uuid4(), "r", "s", "", "Ada", "user", "paid", "active", "en")
    status, headers, body = await asked(app(who, engine), path)
    assert (status, body["error"]["code"], "retry-after" in headers) == (503, "ledger_unavailable", True)
    await engine.dispose()
