"""What a call would meet, told before it: the same code and sentence as the call that follows, and nothing spent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ledger.budget import Budget
from ledger.money import parse_usd
from policies.explanation import Explanation
from policies.tier import Allowance
from tests import house
from tests.backend import Backend, Gate, chat
from tests.house import Caller, Farebox, until

TIERS = """
[[tiers]]
name = "tester"
allowance = { tokens = 200, every = "month" }
upgrade_to = "pro"

[[tiers]]
name = "none"
allowance = { tokens = 0 }

[[tiers]]
name = "penny"
allowance = { usd = "0.01", every = "month" }

[[tiers]]
name = "slow"
concurrency = 1

[[tiers]]
name = "two"
windows = [{ limit = 2, of = "requests", per = "hour" }, { limit = 1, of = "requests", per = "minute" }]

[[tiers]]
name = "words"
windows = [{ limit = 40, of = "tokens", per = "hour" }]

[[tiers]]
name = "never"
windows = [{ limit = 5, of = "output_tokens", per = "hour" }]

[[tiers]]
name = "cents"
windows = [{ limit = "0.01", of = "cost", per = "day" }]
"""
# What passes between the two, and the link, which an explanation has none of: it is not the reader's own.
WORDS = r"Try again in \d+ s|https://fare.example/\S+"
Asked = tuple[Caller, str]
Setting = Callable[["Scene"], Awaitable[Asked]]


class Scene:
    """A gateway and its backend, and what a case opened in them."""

    def __init__(self, farebox: Farebox, backend: Backend) -> None:
        self.farebox = farebox
        self.backend = backend
        self.opened = asyncio.Event()
        self.running: list[asyncio.Task[Any]] = []

    async def called(self, caller: Caller, model: str = "small", **more: Any) -> None:
        answer = await self.farebox.chat(caller, model=model, max_tokens=more.pop("max_tokens", 16), **more)
        assert answer.status == 200, answer.body
        await self.farebox.settled()

    async def explained(self, caller: Caller, model: str | None) -> Explanation:
        user = await self.farebox.accounts.user(caller.user.id)
        assert user is not None
        return await self.farebox.run.gateway.parts.explainer.explain(user, model, datetime.now(UTC))

    async def known(self, caller: Caller, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the gateway sees the account so."""

        async def seen() -> bool:
            answer = await self.farebox.get("/v1/account", caller)
            return holds(answer.json())

        await until(seen)


CASES: dict[str, tuple[str, Setting]] = {}


def tells(code: str) -> Callable[[Setting], Setting]:
    """After this setting the next call is refused with this code ("": it passes)."""

    def note(setting: Setting) -> Setting:
        CASES[setting.__name__] = (code, setting)
        return setting

    return note


@tells("")
async def all_is_well(scene: Scene) -> Asked:
    return await scene.farebox.caller(), "small"


@tells("")
async def the_house_pays(scene: Scene) -> Asked:
    return await scene.farebox.caller(tier="admin", usd="0"), "large"


@tells("")
async def tokens_pay(scene: Scene) -> Asked:
    return await scene.farebox.caller(tier="tester", usd="0"), "small"


@tells("")
async def money_pays_where_the_tokens_are_gone(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="tester", usd="1.00")
    scene.backend.then(chat(usage={"prompt_tokens": 190, "completion_tokens": 5, "total_tokens": 195}))
    await scene.called(ada)
    return ada, "small"


@tells("account_suspended")
async def a_suspended_user(scene: Scene) -> Asked:
    ada = await scene.farebox.caller()
    await scene.farebox.accounts.set_status(ada.user.id, "suspended")
    return ada, "small"


@tells("account_suspended")
async def a_closed_account(scene: Scene) -> Asked:
    ada = await scene.farebox.caller()
    await scene.farebox.accounts.set_status(ada.user.id, "deleted")
    return ada, "small"


@tells("account_suspended")
async def a_suspended_wallet(scene: Scene) -> Asked:
    ada = await scene.farebox.caller()
    await scene.called(ada)
    async with scene.farebox.engine.begin() as connection:
        suspend = text("UPDATE wallets SET state = 'suspended' WHERE id = :id")
        await connection.execute(suspend, {"id": ada.user.wallet_id})
    return ada, "small"


@tells("model_not_found")
async def a_model_nobody_has(scene: Scene) -> Asked:
    return await scene.farebox.caller(), "unheard-of"


@tells("model_not_allowed")
async def a_model_of_another_tier(scene: Scene) -> Asked:
    return await scene.farebox.caller(tier="free"), "large"


@tells("price_missing")
async def a_model_without_a_price(scene: Scene) -> Asked:
    return await scene.farebox.caller(), "unpriced"


@tells("rate_limit_requests")
async def too_many_requests(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="two")
    await scene.called(ada)
    return ada, "small"


@tells("rate_limit_tokens")
async def too_many_tokens(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="words")
    scene.backend.then(chat(usage={"prompt_tokens": 20, "completion_tokens": 19, "total_tokens": 39}))
    await scene.called(ada, max_tokens=5)
    return ada, "small"


@tells("rate_limit_tokens")
async def what_never_fits(scene: Scene) -> Asked:
    return await scene.farebox.caller(tier="never"), "small"


@tells("rate_limit_cost")
async def too_much_cost(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="cents")
    await scene.called(ada, "flat")
    return ada, "flat"


@tells("too_many_concurrent")
async def too_many_at_once(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="slow")
    before = len(scene.backend.requests)
    scene.backend.then(lambda seen: [Gate(scene.opened), *chat()(seen)])
    scene.running.append(asyncio.create_task(scene.farebox.chat(ada)))
    await scene.backend.arrived(before + 1)
    return ada, "small"


@tells("insufficient_balance")
async def no_money(scene: Scene) -> Asked:
    return await scene.farebox.caller(usd="0"), "small"


@tells("insufficient_balance")
async def money_that_is_held(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(usd="0.01")
    before = len(scene.backend.requests)
    scene.backend.then(lambda seen: [Gate(scene.opened), *chat()(seen)])
    scene.running.append(asyncio.create_task(scene.farebox.chat(ada, model="flat")))
    await scene.backend.arrived(before + 1)
    return ada, "flat"


@tells("allowance_exhausted")
async def a_used_up_allowance(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="penny", usd="0")
    await scene.called(ada, "flat")
    return ada, "flat"


@tells("allowance_exhausted")
async def used_up_tokens(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(tier="tester", usd="0")
    scene.backend.then(chat(usage={"prompt_tokens": 190, "completion_tokens": 10, "total_tokens": 200}))
    await scene.called(ada)
    return ada, "small"


@tells("allowance_exhausted")
async def a_plan_without_tokens(scene: Scene) -> Asked:
    return await scene.farebox.caller(tier="none", usd="0"), "small"


@tells("allowance_exhausted")
async def a_members_cap(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(usd="0", name="Cap")
    cap = Budget(parse_usd("0.01"), "month")
    kept = await scene.farebox.accounts.create_group(name="Capped", shared=True, member_cap=cap)
    await scene.farebox.bank.credit(kept.group.wallet_id, 10**9, "paid", source="test", funding="cash:test")
    await scene.farebox.accounts.add_member(kept.group.id, ada.user.id)
    await scene.known(ada, lambda account: account["group"] is not None)
    await scene.called(ada, "flat")
    return ada, "flat"


@tells("allowance_exhausted")
async def used_up_credits_of_a_group(scene: Scene) -> Asked:
    ada = await scene.farebox.caller(usd="0", name="Credits")
    kept = await scene.farebox.accounts.create_group(name="Credits", allowance=Allowance(parse_usd("0.01")))
    await scene.farebox.accounts.add_member(kept.group.id, ada.user.id)
    await scene.known(ada, lambda account: (account["allowance"] or {}).get("left") == "0.0100")
    await scene.called(ada, "flat")
    return ada, "flat"


@pytest.fixture
async def open_scene(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(*, redis_url: str = redis_url, **settings: Any) -> AsyncIterator[Scene]:
        async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=TIERS, **settings) as farebox:
            yield Scene(farebox, backend)

    return opened


async def traces(farebox: Farebox, caller: Caller) -> list[Any]:
    """Everything a call would leave: money, holds, windows, slots."""
    tables = "SELECT (SELECT count(*) FROM holds), (SELECT count(*) FROM wallets), (SELECT count(*) FROM grants)"
    money = "SELECT id, spendable, held FROM wallets ORDER BY id"
    budgets = "SELECT id, spent, held FROM budgets ORDER BY id"
    parts = farebox.run.gateway.parts
    user = await farebox.accounts.user(caller.user.id)
    assert user is not None
    tier = parts.catalog().tiers[user.tier]
    reading = await parts.buckets.read(str(user.wallet_id), str(user.id), tier.windows)
    rows = [list(map(tuple, await farebox.rows(query))) for query in (tables, money, budgets)]
    return [*rows, [level.used for level in reading.levels], reading.open_calls]


async def test_each_refusal_is_foretold_and_foretelling_leaves_no_trace(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        for name, (code, setting) in CASES.items():
            scene.opened = asyncio.Event()
            caller, model = await setting(scene)
            await scene.explained(caller, model)  # what the wallet is due is booked by whoever looks first
            before = await traces(scene.farebox, caller)
            told = await scene.explained(caller, model)
            assert await traces(scene.farebox, caller) == before, name
            assert (told.can_make_request, told.code) == (not code, code), (name, told)
            await until(lambda: answered(scene, caller, model, code))  # noqa: B023  # the notice may be under way
            answer = await scene.farebox.chat(caller, model=model, max_tokens=16)
            if code:
                assert answer.error["code"] == code, name
                assert re.sub(WORDS, "", told.message) == re.sub(WORDS, "", answer.error["message"]), name
                first = next(rule for rule in told.rules if rule.verdict == "refuse")
                assert first.says
            scene.opened.set()
            await asyncio.gather(*scene.running)
            scene.running.clear()
        assert not await scene.farebox.broken()


async def answered(scene: Scene, caller: Caller, model: str, code: str) -> bool:
    answer = await scene.farebox.chat(caller, model=model, max_tokens=16)
    return (answer.status == 200) is (not code)


async def test_every_rule_is_named_in_the_order_in_which_a_call_meets_it(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        ada = await scene.farebox.caller(tier="two")
        told = await scene.explained(ada, "small")
        assert [rule.name for rule in told.rules] == [
            "account",
            "key",
            "tier",
            "group",
            "model_exists",
            "model_granted",
            "price",
            "features",
            "window",
            "window",
            "concurrency",
            "allowance",
            "balance",
        ]
        assert all(rule.verdict == "pass" and rule.says.endswith(".") for rule in told.rules)
        window = told.rules[8].detail
        assert (window["window"], window["used"], window["limit"], window["resets_at"]) == ("requests/3600", 0, 2, None)
        assert (told.tier, told.model, told.message) == ("two", "small", "")
        balance = told.rules[-1].detail
        assert balance["available"] == "10.0000" and parse_usd(balance["needed"]) == 16 * 150 + 16 * 600


async def test_of_several_windows_the_one_that_keeps_longest_is_told(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        ada = await scene.farebox.caller(tier="two")
        await scene.called(ada)
        told = await scene.explained(ada, "small")
        verdicts = {rule.detail["window"]: rule.verdict for rule in told.rules if rule.name == "window"}
        assert verdicts == {"requests/3600": "pass", "requests/60": "refuse"}
        assert "1 requests per minute" in told.message


async def test_without_a_model_the_cheapest_that_the_plan_grants_is_meant(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        told = await scene.explained(await scene.farebox.caller(), None)
        assert told.can_make_request and told.model is None
        (rule,) = [rule for rule in told.rules if rule.name == "model_exists"]
        assert rule.detail["model"] == "small"
        refused = await scene.explained(await scene.farebox.caller(usd="0"), None)
        assert refused.code == "insufficient_balance"


async def test_other_kinds_of_models_are_explained_too(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        told = await scene.explained(await scene.farebox.caller(), "embed")
        assert told.can_make_request
        assert (await scene.explained(await scene.farebox.caller(usd="0"), "embed")).code == "insufficient_balance"


async def test_where_the_limiter_is_away_and_calls_are_refused_it_is_not_known(open_scene: Callable[..., Any]) -> None:
    settings = {"redis_url": "redis://127.0.0.1:9/0", "redis": {"on_failure": "refuse"}}
    async with open_scene(**settings) as scene:
        ada = await scene.farebox.caller()
        told = await scene.explained(ada, "small")
        (rule,) = [rule for rule in told.rules if rule.verdict == "unknown"]
        answer = await scene.farebox.chat(ada)
        assert (rule.name, told.code, answer.error["code"]) == ("windows", "limiter_unavailable", "limiter_unavailable")
        assert not told.can_make_request


async def test_where_the_bank_is_away_it_is_not_known(open_scene: Callable[..., Any]) -> None:
    bank = {"beat_s": 0.5, "hold_ttl_s": 3, "statement_timeout_s": 2}
    async with open_scene(bank=bank) as scene:
        ada = await scene.farebox.caller()
        await scene.called(ada)
        user = await scene.farebox.accounts.user(ada.user.id)
        explainer = scene.farebox.run.gateway.parts.explainer
        async with scene.farebox.engine.begin() as connection:
            await connection.execute(text("LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE"))
            told = await explainer.explain(user, "small", datetime.now(UTC))
            answer = await scene.farebox.chat(ada)
        assert (told.code, told.message) == ("ledger_unavailable", answer.error["message"])
        assert [rule.name for rule in told.rules if rule.verdict == "unknown"] == ["balance"]
        assert [rule.verdict for rule in told.rules if rule.name == "concurrency"] == ["pass"]
