"""Calls nobody typed at the gate: who pays, up to which cap, which model answers, and that a label gains no more."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from gateway.admission import Admission
from gateway.errors import Refusal
from gateway.tokens import Tokenizers
from ledger.budget import Budget
from ledger.hold import Outcome, Settlement
from ledger.ids import uuid7
from ledger.money import parse_usd
from ledger.store import Beat, Unposted
from ledger.store_sql import make_engine
from ledger.usage import Usage, UsageSource
from ledger.verify import verify
from policies.caps import task_cap
from policies.key_limits import KeyLimits
from policies.principal import Principal
from tests.gateway.parts import Counter, catalog_of, chat_request, embeddings_request

MORE = """
[[models]]
id = "long"
upstream = "main"
prices = { input = "1.00", output = "1.00" }

[[models]]
id = "tiny"
upstream = "main"
context = 200
max_output = 100
prices = { input = "0.01", output = "0.01" }

[[tiers]]
name = "narrow"
models = ["long"]

[[tiers]]
name = "tester"
allowance = { tokens = 1000 }

[[tiers]]
name = "paced"
concurrency = 1
tasks_per_request = 3
embeddings_concurrency = 2
windows = [{ limit = 2, of = "requests", per = "hour" }, { limit = 1_000_000, of = "tokens", per = "hour" }]

[[tasks]]
name = "title_generation"
pays = "house"
cap = { usd = "0.02", every = "day" }

[[tasks]]
name = "tags_generation"
factor = "0.5"

[[tasks]]
name = "follow_up_generation"
model = "tiny"

[[tasks]]
name = "query_generation"
model = "unpriced"
"""
TITLE = "title_generation"


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(tmp_path_factory.mktemp("data"))


@pytest.fixture
async def counter(database_url: str, tokenizers: Tokenizers) -> AsyncIterator[Counter]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield Counter(engine, await catalog_of(engine, MORE), tokenizers)
    assert [finding.name for finding in await verify(engine) if not finding.holds] == []
    await engine.dispose()


def settlement(admission: Admission, usage: Usage) -> Settlement:
    """The word of a call that used this."""
    bill = admission.candidates[0].bill
    return Settlement(
        request_id=UUID(admission.ticket.ask.request_id),
        wallet_id=admission.wallet_id,
        usage=usage,
        source=UsageSource.REPORTED,
        amount=bill.amount(usage),
        price_version=bill.price.version,
        factor_ppm=bill.factor_ppm,
        outcome=Outcome.COMPLETED,
        at=datetime.now(UTC),
        facts=admission.facts,
    )


async def ended(counter: Counter, admission: Admission, usage: Usage | None = None) -> int:
    """Settle the call, its windows too; what it was charged."""
    used = usage or Usage(input=admission.candidates[0].bill.input_tokens, output=20)
    event = settlement(admission, used)
    assert await counter.bank.close([event]) == Unposted()
    await counter.buckets.undo(admission.ticket)
    return event.amount


async def budget(counter: Counter, who: Principal) -> tuple[int, int]:
    """Spent and held of what the house pays for this user's titles today."""
    cap = task_cap(counter.catalog.tasks[TITLE], who.user_id, datetime.now(UTC))
    assert cap is not None
    state = await counter.bank.budget(cap.id)
    return state.spent, state.held


async def refused(awaiting: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await awaiting
    return caught.value


# Who pays -----------------------------------------------------------------------------------------------------------


async def test_the_house_pays_for_a_title_and_its_caller_needs_nothing(counter: Counter) -> None:
    ada = await counter.person(usd="0", task=TITLE)
    admission = await counter.admitted(ada, chat_request(max_tokens=100))
    assert admission.purse.house and admission.facts.house and admission.facts.task == TITLE
    assert admission.held > 0 and (await counter.bank.balance(ada.wallet_id, None)).held == 0
    assert await budget(counter, ada) == (0, admission.held)
    amount = await ended(counter, admission)
    assert await budget(counter, ada) == (amount, 0)


@pytest.mark.parametrize("usd", ["0.0005", "0.00005"])
async def test_a_title_leaves_the_message_beside_it_what_is_left(usd: str, counter: Counter) -> None:
    ada = await counter.person(usd=usd)
    title = await counter.admitted(replace(ada, task="emoji_generation"), chat_request())
    message = await counter.admitted(ada, chat_request(max_tokens=1000))
    assert title.held < message.held and title.held + message.held == parse_usd(usd)
    await ended(counter, title)
    await ended(counter, message)


async def test_what_the_house_sets_aside_follows_the_answer(counter: Counter) -> None:
    ada = await counter.person(usd="0", task=TITLE)
    admission = await counter.admitted(ada, chat_request(max_tokens=300))
    beat = Beat(UUID(admission.ticket.ask.request_id), ada.wallet_id, 10, Usage(output=1), admission.held + 50)
    [reply] = await counter.bank.beat([beat])
    assert (reply.amount, reply.budget) == (admission.held + 50, None)
    [reply] = await counter.bank.beat([dataclasses.replace(beat, target=parse_usd("1"))])
    assert reply.amount == parse_usd("0.02") and reply.budget is not None  # the cap, and not a nano more
    await ended(counter, admission)


async def test_where_the_cap_is_used_up_the_caller_pays_as_for_any_call(counter: Counter) -> None:
    ada = await counter.person(usd="1.00", task=TITLE)
    first = await counter.admitted(ada, chat_request(max_tokens=20_000))
    await ended(counter, first, Usage(output=parse_usd("0.02") // 600))
    second = await counter.admitted(ada, chat_request(max_tokens=100))
    assert first.purse.house and not second.purse.house and not second.facts.house
    assert (await counter.bank.balance(ada.wallet_id, None)).held == second.held > 0
    await ended(counter, second)


async def test_who_has_nothing_and_a_cap_that_is_used_up_is_told_of_the_balance(counter: Counter) -> None:
    poor = await counter.person(usd="0", task=TITLE)
    await ended(counter, await counter.admitted(poor, chat_request()), Usage(output=parse_usd("0.02") // 600))
    refusal = await refused(counter.admitted(poor, chat_request()))
    assert refusal.code == "insufficient_balance" and refusal.details["limit"] == "balance"


async def test_sixty_four_forged_titles_at_once_cost_the_house_no_more_than_its_cap(counter: Counter) -> None:
    ada = await counter.person(usd="10.00", task=TITLE)
    asked = [chat_request("word " * 50, model="large", max_tokens=400) for _ in range(64)]
    admitted = await asyncio.gather(*(counter.admitted(ada, each) for each in asked))
    house = [each for each in admitted if each.purse.house]
    cap = parse_usd("0.02")
    assert sum(each.held for each in house) <= cap and 0 < len(house) < 64
    assert await budget(counter, ada) == (0, sum(each.held for each in house))
    charged = {True: 0, False: 0}
    for each in admitted:
        # The last one that the house pays was told a shorter answer, which its hold covers.
        used = Usage(input=each.candidates[0].bill.input_tokens, output=each.output_cap or 400)
        charged[each.purse.house] += await ended(counter, each, used)
    spent, held = await budget(counter, ada)
    assert spent == charged[True] <= cap and held == 0
    # The rest was paid by the one who asked.
    balance = await counter.bank.balance(ada.wallet_id, None)
    assert balance.spendable == parse_usd("10.00") - charged[False]


async def test_each_user_has_a_cap_of_their_own(counter: Counter) -> None:
    ada, bob = [await counter.person(usd="0", task=TITLE) for _ in range(2)]
    await ended(counter, await counter.admitted(ada, chat_request()), Usage(output=parse_usd("0.02") // 600))
    assert (await counter.admitted(bob, chat_request())).purse.house


async def test_a_keys_budget_bounds_what_the_house_pays_for_it(counter: Counter) -> None:
    limits = KeyLimits(budget=Budget(parse_usd("0.00001"))).owned_by(uuid7())
    ada = await counter.person(usd="1.00", task=TITLE, limits=limits)
    refusal = await refused(counter.admitted(ada, chat_request(max_tokens=100)))
    assert refusal.details["limit"] == "key_budget"
    assert await budget(counter, ada) == (0, 0)


async def test_a_discount_is_on_the_charge_and_in_what_is_set_aside(counter: Counter) -> None:
    plain = await counter.admitted(await counter.person(), chat_request(max_tokens=10))
    half = await counter.admitted(await counter.person(task="tags_generation"), chat_request(max_tokens=10))
    assert (plain.candidates[0].bill.factor_ppm, half.candidates[0].bill.factor_ppm) == (1_000_000, 500_000)
    assert half.held == -(-plain.held // 2)
    assert await ended(counter, half, Usage(output=1000)) == 300_000
    await ended(counter, plain)


async def test_tokens_are_discounted_too(counter: Counter) -> None:
    tags = await counter.admitted(await counter.person(tier="tester", usd="0", task="tags_generation"), chat_request())
    assert tags.in_tokens and tags.candidates[0].bill.factor_ppm == 500_000
    assert await ended(counter, tags, Usage(input=10, output=11)) == 11


async def test_who_pays_with_tokens_has_titles_on_the_house_all_the_same(counter: Counter) -> None:
    ada = await counter.person(tier="tester", usd="0", task=TITLE)
    assert (await counter.admitted(ada, chat_request(max_tokens=10))).purse.house


async def test_an_unlimited_tier_is_on_the_house_without_the_cap(counter: Counter) -> None:
    root = await counter.person(tier="admin", usd="0", task=TITLE)
    admission = await counter.admitted(root, chat_request(model="large"))
    assert (admission.held, admission.facts.house, admission.facts.tier) == (0, True, "admin")
    assert await budget(counter, root) == (0, 0)


# Which model answers ------------------------------------------------------------------------------------------------


async def test_another_model_may_answer_and_is_what_is_priced_and_recorded(counter: Counter) -> None:
    ada = await counter.person(task="follow_up_generation")
    admission = await counter.admitted(ada, chat_request(model="large", max_tokens=50))
    assert [each.model.id for each in admission.candidates] == ["tiny"]
    assert admission.facts.model == "tiny"


@pytest.mark.parametrize(
    ("tier", "task", "request_more"),
    [
        ("paid", "", {}),
        ("paid", "moa_response_generation", {}),
        ("paid", "query_generation", {}),
        ("narrow", "follow_up_generation", {}),
        ("paid", "follow_up_generation", {"max_tokens": 101}),
        ("paid", "follow_up_generation", {"content": "word " * 400}),
    ],
    ids=["typed", "no rule", "no price", "not granted", "longer than it answers", "longer than it reads"],
)
async def test_else_the_model_that_was_asked_for_answers(
    counter: Counter, tier: str, task: str, request_more: dict[str, Any]
) -> None:
    ada = await counter.person(tier=tier, task=task)
    admission = await counter.admitted(ada, chat_request(model="long", **request_more))
    assert [each.model.id for each in admission.candidates] == ["long"]


async def test_a_key_that_does_not_allow_the_cheaper_model_is_answered_by_its_own(counter: Counter) -> None:
    limits = KeyLimits(models=("long",)).owned_by(uuid7())
    ada = await counter.person(task="follow_up_generation", limits=limits)
    assert (await counter.admitted(ada, chat_request(model="long"))).facts.model == "long"


async def test_who_may_not_use_the_model_asked_for_gets_no_other_in_its_place(counter: Counter) -> None:
    bob = await counter.person(tier="narrow", task="follow_up_generation")
    assert (await refused(counter.admitted(bob, chat_request(model="large")))).code == "model_not_allowed"
    missing = chat_request(model="nobody")
    assert (await refused(counter.admitted(bob, missing))).code == "model_not_found"


async def test_a_model_that_was_retired_no_longer_answers(counter: Counter) -> None:
    without = {name: model for name, model in counter.catalog.models.items() if name != "tiny"}
    catalog = dataclasses.replace(counter.catalog, models=without)
    ada = await counter.person(task="follow_up_generation")
    admission = await counter.admitted(ada, chat_request(model="long"), catalog=lambda: catalog)
    assert admission.facts.model == "long"


# Windows and calls at once ------------------------------------------------------------------------------------------


async def test_tasks_and_embeddings_take_no_place_of_a_persons_requests(counter: Counter) -> None:
    ada = await counter.person(tier="paced")
    title = replace(ada, task="x")
    running = [await counter.admitted(ada, chat_request(max_tokens=5))]
    # One call of hers runs, as many as may; three tasks and two embeddings run beside it.
    running += [await counter.admitted(title, chat_request(max_tokens=5)) for _ in range(3)]
    running += [await counter.admitted(ada, embeddings_request()) for _ in range(2)]
    for who, request in ((ada, chat_request()), (title, chat_request()), (ada, embeddings_request())):
        assert (await refused(counter.admitted(who, request))).code == "too_many_concurrent"
    for each in running:
        await counter.buckets.correct(each.ticket, [1, 1])
    await counter.admitted(ada, chat_request(max_tokens=5))
    assert (await refused(counter.admitted(ada, chat_request(max_tokens=5)))).details["limit"] == "requests/3600"


async def test_a_forged_label_gains_the_factor_and_no_more(counter: Counter) -> None:
    ada = await counter.person(tier="paced")
    forged = replace(ada, task="title_generation_forged")
    passed = 0
    for who in (ada, forged):
        with pytest.raises(Refusal) as caught:
            while True:
                admission = await counter.admitted(who, chat_request(max_tokens=5))
                await counter.buckets.correct(admission.ticket, [1, 10])
                await counter.bank.close([settlement(admission, Usage(output=1))])
                passed += 1
        assert caught.value.code == "rate_limit_requests"
    assert passed == 2 + 2 * 3
    # All of it was paid for, and counted where everything is.
    reading = await counter.buckets.read(str(ada.wallet_id), str(ada.user_id), counter.catalog.tiers["paced"].windows)
    assert [level.used for level in reading.levels] == [2, 80]
    assert (await counter.bank.balance(ada.wallet_id, None)).spendable == parse_usd("10") - 8 * 600
