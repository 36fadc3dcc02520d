"""The gate: every rule asked, cheap before dear; what is set aside; and nothing left behind by a no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from config.catalog import Catalog
from gateway.errors import Refusal
from gateway.tokens import Tokenizers
from ledger.budget import Budget
from ledger.ids import uuid7
from ledger.money import parse_usd
from ledger.store import BankUnavailable, HoldAsk, HoldReply
from ledger.store_sql import make_engine
from ledger.wallet import token_wallet_id
from policies.buckets import Ask, BucketsBusy, BucketsUnavailable
from policies.buckets_memory import BucketsMemory
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.tier import Window
from tests.gateway.parts import CHAT, URL, Counter, catalog_of, chat_request, embeddings_request

MORE = """
[[models]]
id = "first"
upstream = "main"
fallback = "second"
prices = { input = "1.00", output = "1.00" }

[[models]]
id = "second"
upstream = "main"
fallback = "unpriced"
prices = { input = "2.00", output = "3.00" }

[[tiers]]
name = "bounded"
max_context = 1000
max_output = 50

[[tiers]]
name = "narrow"
models = ["first"]

[[tiers]]
name = "tester"
allowance = { tokens = 1000 }
windows = [{ limit = 100, of = "requests", per = "hour" }, { limit = "0.01", of = "cost", per = "hour" }]

[[tiers]]
name = "windows"
windows = [
    { limit = 10, of = "requests", per = "hour" },
    { limit = 100000, of = "tokens", per = "hour" },
    { limit = 100000, of = "input_tokens", per = "hour" },
    { limit = 100000, of = "output_tokens", per = "hour" },
    { limit = "1.00", of = "cost", per = "hour" },
]
"""


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(tmp_path_factory.mktemp("data"))


@pytest.fixture
async def counter(database_url: str, tokenizers: Tokenizers) -> AsyncIterator[Counter]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield Counter(engine, await catalog_of(engine, MORE), tokenizers)
    await engine.dispose()


async def code_of(awaiting: Any) -> str:
    with pytest.raises(Refusal) as caught:
        await awaiting
    return caught.value.code


async def used(counter: Counter, who: Principal) -> tuple[list[int], int]:
    """What the windows hold, and the open slots."""
    tier = counter.catalog.tiers[who.tier]
    reading = await counter.buckets.read(str(who.wallet_id), str(who.user_id), tier.windows)
    return [level.used for level in reading.levels], reading.open_calls


async def test_an_admission_sets_the_money_aside_and_names_who_and_what(counter: Counter) -> None:
    ada = await counter.person(usd="1.00", task="title")
    admission = await counter.admitted(ada, chat_request(max_tokens=10))
    assert admission.held >= 10 * 600 and admission.held + admission.available == 10**9
    assert (admission.facts.user_id, admission.facts.tier, admission.facts.model) == (ada.user_id, "paid", "small")
    assert (admission.facts.route, admission.facts.chat_id, admission.facts.task) == (
        "chat.completions",
        "chat-1",
        "title",
    )
    assert admission.upgrade_url == URL and admission.output_cap is None
    assert [each.model.id for each in admission.candidates] == ["small"]


async def test_a_tier_that_was_retired_falls_to_the_default_one_and_none_at_all_is_not_free(counter: Counter) -> None:
    ada = await counter.person(tier="retired-tier")
    assert (await counter.admitted(ada, chat_request())).tier.name == "free"
    without = Catalog(counter.catalog.upstreams, counter.catalog.models, {}, counter.catalog.prices)
    assert await code_of(counter.admitted(ada, chat_request(), catalog=lambda: without)) == "price_missing"


async def test_a_tiers_own_address_stands_over_the_houses(counter: Counter) -> None:
    tier = msgspec.structs.replace(counter.catalog.tiers["paid"], upgrade_url="https://elsewhere.example")
    assert counter.admitter().upgrade_url(tier) == "https://elsewhere.example"
    assert counter.admitter().upgrade_url(counter.catalog.tiers["paid"]) == URL


async def test_what_the_tier_does_not_grant_is_refused_before_anything_is_asked(counter: Counter) -> None:
    bob = await counter.person(tier="narrow")
    for request, code in (
        (chat_request(model="nobody"), "model_not_found"),
        (chat_request(model="embed"), "invalid_request"),
        (chat_request(model="large"), "model_not_allowed"),
    ):
        admitter = counter.admitter(buckets=None, teller=None)
        assert await code_of(admitter.admit(CHAT, request, bob, uuid7(), "")) == code
    assert await code_of(counter.admitted(await counter.person(), chat_request(model="unpriced"))) == "price_missing"


async def test_a_bound_on_the_context_is_measured_exactly(counter: Counter) -> None:
    bob = await counter.person(tier="bounded")
    # Two tokens for nineteen bytes: by its bytes this would be far too long.
    assert await counter.admitted(bob, chat_request(" characteristically" * 400, max_tokens=50))
    assert await code_of(counter.admitted(bob, chat_request(" word" * 1200))) == "request_too_large"
    assert await code_of(counter.admitted(bob, chat_request(max_tokens=51))) == "request_too_large"


async def test_a_fallback_counts_if_it_has_a_price_and_the_tier_grants_it_and_the_hold_covers_the_dearest(
    counter: Counter,
) -> None:
    request = chat_request(model="first", max_tokens=1000)
    both = await counter.admitted(await counter.person(), request)
    assert [each.model.id for each in both.candidates] == ["first", "second"]
    assert both.held >= 1000 * 3000
    alone = await counter.admitted(await counter.person(tier="narrow"), request)
    assert [each.model.id for each in alone.candidates] == ["first"]
    assert 1000 * 1000 <= alone.held < 1000 * 1100


async def test_embeddings_reserve_no_output_and_tell_no_bound(counter: Counter) -> None:
    admission = await counter.admitted(await counter.person(usd="0.000001"), embeddings_request("hello world"))
    assert admission.held == 2 * 20 and admission.output_cap is None


async def test_windows_are_charged_in_their_own_units(counter: Counter) -> None:
    ada = await counter.person(tier="windows")
    admission = await counter.admitted(ada, chat_request(max_tokens=100))
    [bill] = [each.bill for each in admission.candidates]
    costs = {window.of: cost for window, cost in admission.ticket.ask.rules}
    assert costs == {
        "requests": 1,
        "tokens": bill.input_tokens + 100,
        "input_tokens": bill.input_tokens,
        "output_tokens": 100,
        "cost": bill.expected(100),
    }


async def test_an_unlimited_tier_holds_nothing_and_is_told_no_bound(counter: Counter) -> None:
    root = await counter.person(tier="admin", usd="0")
    admission = await counter.admitted(root, chat_request(model="large"))
    assert (admission.held, admission.output_cap, admission.facts.house) == (0, None, True)


async def test_what_the_model_usually_gives_is_reserved_where_nothing_was_asked(counter: Counter) -> None:
    ada = await counter.person()
    before = (await counter.admitted(ada, chat_request())).held
    for _ in range(100):
        counter.output_seen.observe("small", 40)
    after = (await counter.admitted(ada, chat_request())).held
    assert after < before and after >= 40 * 600


# Tokens and keys ----------------------------------------------------------------------------------------------------


async def test_tokens_pay_first_and_a_purse_of_them_is_opened_by_its_first_call(counter: Counter) -> None:
    ada = await counter.person(tier="tester", usd="1.00")
    first, second = [await counter.admitted(ada, chat_request(max_tokens=100)) for _ in range(2)]
    for admission in (first, second):
        assert admission.in_tokens and admission.wallet_id == token_wallet_id(ada.wallet_id)
        assert admission.held == admission.purse.wanted == admission.candidates[0].bill.input_tokens + 100
    assert second.available == 1000 - first.held - second.held
    # A window of money counts nothing of it.
    assert [cost for window, cost in first.ticket.ask.rules if window.of == "cost"] == [0]


async def test_where_tokens_do_not_suffice_money_is_counted_and_held_instead(counter: Counter) -> None:
    ada = await counter.person(tier="tester", usd="1.00")
    long = chat_request("word " * 2000, max_tokens=100)
    admission = await counter.admitted(ada, long)
    assert not admission.in_tokens and admission.wallet_id == ada.wallet_id
    (cost,) = [cost for window, cost in admission.ticket.ask.rules if window.of == "cost"]
    assert cost == admission.held > 0
    assert await used(counter, ada) == ([1, cost], 1)


async def test_who_has_neither_leaves_no_trace(counter: Counter) -> None:
    poor = await counter.person(tier="tester", usd="0")
    long = chat_request("word " * 2000)
    assert await code_of(counter.admitted(poor, long, key="order-1")) == "allowance_exhausted"
    assert await used(counter, poor) == ([0, 0], 0)
    assert await counter.admitted(poor, chat_request(max_tokens=10), key="order-1")


async def test_money_that_a_window_refuses_takes_the_first_count_back(counter: Counter) -> None:
    ada = await counter.person(tier="tester", usd="10.00")
    dear = chat_request("word " * 2000, model="large", max_tokens=100_000)
    assert await code_of(counter.admitted(ada, dear)) == "rate_limit_cost"
    assert await used(counter, ada) == ([0, 0], 0)


async def test_a_budget_bounds_what_the_backend_is_told(counter: Counter) -> None:
    limits = KeyLimits(budget=Budget(parse_usd("0.0002"))).owned_by(uuid7())
    ada = await counter.person(limits=limits)
    admission = await counter.admitted(ada, chat_request())
    assert admission.held == parse_usd("0.0002") and admission.available > parse_usd("9")
    bill = admission.candidates[0].bill
    assert admission.output_cap == bill.covered(admission.held) < 400
    assert await code_of(counter.admitted(ada, chat_request())) == "allowance_exhausted"


async def test_a_key_is_asked_like_a_tier(counter: Counter) -> None:
    limits = KeyLimits(models=("first",), windows=(Window(1, "requests", 60),)).owned_by(uuid7())
    ada = await counter.person(limits=limits)
    assert await code_of(counter.admitted(ada, chat_request())) == "model_not_allowed"
    admission = await counter.admitted(ada, chat_request(model="first"))
    assert [each.model.id for each in admission.candidates] == ["first"]  # the key does not allow the fallback
    assert await code_of(counter.admitted(ada, chat_request(model="first"))) == "rate_limit_requests"


# A no leaves nothing ------------------------------------------------------------------------------------------------


class Broken:
    """A teller that fails."""

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    async def open(self, ask: HoldAsk) -> HoldReply:
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (BankUnavailable("away"), Refusal),
        (RuntimeError("a defect"), RuntimeError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
    ids=["away", "a defect", "cancelled"],
)
async def test_whatever_happens_at_the_bank_the_windows_are_given_back(
    counter: Counter, failure: BaseException, told: type[BaseException]
) -> None:
    ada = await counter.person(tier="windows")
    with pytest.raises(told) as caught:
        await counter.admitted(ada, chat_request(), key="order-1", teller=Broken(failure))
    assert not isinstance(caught.value, Refusal) or caught.value.code == "ledger_unavailable"
    assert await used(counter, ada) == ([0] * 5, 0)
    assert await counter.admitted(ada, chat_request(), key="order-1")


async def test_a_wallet_that_cannot_pay_gives_its_windows_back(counter: Counter) -> None:
    poor = await counter.person(tier="windows", usd="0")
    assert await code_of(counter.admitted(poor, chat_request())) == "insufficient_balance"
    assert await used(counter, poor) == ([0] * 5, 0)


class Away(BucketsMemory):
    """Windows that do not answer."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self._failure = failure

    async def admit(self, ask: Ask) -> Any:
        raise self._failure

    async def undo(self, ticket: Any) -> None:
        raise self._failure


@pytest.mark.parametrize("failure", [BucketsUnavailable(), BucketsBusy()])
async def test_without_an_answer_about_the_limits_nobody_guesses(counter: Counter, failure: Exception) -> None:
    ada = await counter.person()
    assert await code_of(counter.admitted(ada, chat_request(), buckets=Away(failure))) == "limiter_unavailable"
    assert (await counter.bank.balance(ada.wallet_id, None)).held == 0


async def test_limits_that_go_away_between_two_steps_do_not_hide_the_refusal(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = await counter.person(usd="0")
    monkeypatch.setattr(counter.buckets, "undo", Away(BucketsUnavailable()).undo)
    assert await code_of(counter.admitted(poor, chat_request())) == "insufficient_balance"


async def test_the_same_idempotency_key_is_one_call(counter: Counter) -> None:
    ada = await counter.person()
    first = await counter.admitted(ada, chat_request(), key="order-1")
    with pytest.raises(Refusal) as caught:
        await counter.admitted(ada, chat_request(), key="order-1")
    assert caught.value.code == "idempotency_conflict"
    assert caught.value.details["limit"] == first.ticket.ask.request_id
