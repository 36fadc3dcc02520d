"""The money's end of a call: what its hold covers, when it asks for more, and what its caller is told."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from config.catalog import Model
from gateway.admission import Admission
from gateway.bill import Bill
from gateway.meter import Reading
from gateway.order import Candidate
from gateway.payment import Payment
from gateway.purse import Purse
from ledger.hold import CallFacts
from ledger.period import Plan
from ledger.price import TOKEN_PRICE, Price
from ledger.store import BankUnavailable, Beat, BeatReply
from ledger.usage import Usage, UsageSource
from policies.caps import Cap
from policies.tier import Tier
from tests.gateway.parts import URL

CALL, WALLET, BUDGET = UUID(int=1), UUID(int=2), UUID(int=3)
PRICE = Price(7, "small", {"input": 1_000_000, "output": 1_000_000})  # 1000 nano-USD a token
CAP = Cap("key", BUDGET, 10**9, datetime(2026, 12, 1, tzinfo=UTC))


def payment(held: int = 60_000, available: int = 5_000, **more: Any) -> Payment:
    """A call with 10 tokens of input, paid with money or, by ``price``, with tokens."""
    price, currency = more.get("price", PRICE), more.get("currency", "USD")
    models = (Model("small", "main", "small"), Model("other", "second", "other"))
    prices = (price, more.get("second", price))
    candidates = tuple(
        Candidate(model, Bill(each, 1_000_000, Usage(input=10))) for model, each in zip(models, prices, strict=True)
    )
    house = more.get("house", False)
    purse = Purse(WALLET, currency, more.get("plan"), candidates, held, held, more.get("caps", ()), house)
    facts = CallFacts(user_id=CALL, tier="free", model="small", route="chat.completions")
    tier, ticket = more.get("tier", Tier("free")), SimpleNamespace()
    admission = Admission(tier, purse, ticket, held, available, None, facts, URL)  # type: ignore[arg-type]
    return Payment(CALL, admission)


class SomeTeller:
    """Answers one beat."""

    def __init__(self, reply: BeatReply | Exception) -> None:
        self.reply = reply
        self.asked: list[Beat] = []

    async def beat(self, beat: Beat) -> BeatReply:
        self.asked.append(beat)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


# The hold -----------------------------------------------------------------------------------------------------------


def test_a_hold_covers_as_much_as_it_pays_beside_the_request() -> None:
    paid = payment(60_000)
    assert paid.covers(50) and not paid.covers(51)
    tokens = payment(60, price=TOKEN_PRICE, currency="TOK")
    assert tokens.covers(50) and not tokens.covers(51)
    assert payment(0, tier=Tier("admin", unlimited=True)).covers(10**9)


def test_another_model_that_answers_is_covered_by_its_own_bill() -> None:
    paid = payment(60_000, second=Price(8, "other", {"input": 1_000_000, "output": 5_000_000}))
    paid.answer_by(paid.admission.candidates[1])
    assert paid.covers(10) and not paid.covers(11)
    assert paid.answering.model.id == "other"


def test_a_beat_tells_what_was_used_and_asks_for_what_the_next_one_and_a_half_take() -> None:
    paid = payment(60_000)
    first = paid.beat(40, Usage(input=10, output=40))
    assert first is not None
    assert (first.wallet_id, first.checkpoint, first.price_version) == (WALLET, 50_000, 7)
    assert first.target == (10 + 40 + 40 + 20) * 1000 and paid.beaten_at == 40
    still = paid.beat(40, Usage(input=10, output=40))
    assert still is not None and still.target == 0  # nothing came since


def test_who_does_not_pay_asks_for_nothing() -> None:
    beat = payment(0, tier=Tier("admin", unlimited=True)).beat(500, Usage(output=500))
    assert beat is not None and (beat.target, beat.checkpoint) == (0, 500_000)


def test_a_hold_grows_and_never_shrinks_by_an_answer() -> None:
    paid = payment(60_000)
    paid.beaten(BeatReply(True, 100_000, 0))
    assert (paid.held, paid.covers(90)) == (100_000, True)
    paid.beaten(BeatReply(True, 70_000, 0))
    assert paid.held == 100_000


def test_a_call_given_up_beats_no_more() -> None:
    paid = payment()
    paid.beaten(BeatReply(False, 0, 0))
    assert paid.lost and paid.beat(10, Usage(output=10)) is None
    assert paid.ended().details["limit"] == "hold"


@pytest.mark.parametrize(("output", "target"), [(60, 10 + 60 + 100), (4000, 10 + 4000 + 1000)])
async def test_growing_asks_for_some_tokens_more_or_a_quarter(output: int, target: int) -> None:
    paid, teller = payment(60_000), SomeTeller(BeatReply(True, 10_000_000, 0))
    await paid.grow(teller, output, Usage(input=10, output=output), 100)  # type: ignore[arg-type]
    assert teller.asked[0].target == target * 1000
    assert paid.covers(output)


async def test_while_the_bank_is_away_what_runs_goes_on() -> None:
    paid = payment(60_000)
    await paid.grow(SomeTeller(BankUnavailable("away")), 60, Usage(output=60), 100)  # type: ignore[arg-type]
    assert paid.covers(160) and not paid.covers(161)
    assert paid.held == 60_000


# What is said -------------------------------------------------------------------------------------------------------


def test_the_end_is_told_by_what_ended() -> None:
    assert payment().ended().code == "insufficient_balance"
    assert payment(plan=Plan(5)).ended().details["limit"] == "allowance"
    tokens = payment(price=TOKEN_PRICE, currency="TOK").ended()
    assert tokens.code == "allowance_exhausted" and "tokens are used up" in tokens.message
    capped = payment(caps=(CAP,))
    assert capped.ended().code == "insufficient_balance"  # it was the wallet, not the budget
    capped.beaten(BeatReply(True, 60_000, 0, budget=BUDGET))
    assert capped.ended().details["limit"] == "key_budget"


def test_what_was_cut_is_charged_no_further_than_the_hold() -> None:
    paid = payment(60_000)
    reading = Reading(Usage(input=10, output=70, reasoning=30), UsageSource.REPORTED)
    within = paid.within_hold(reading).usage
    assert (within.input, within.reasoning, within.output) == (10, 30, 20)
    assert paid.within_hold(reading._replace(usage=Usage(input=10, output=40))).usage.output == 40


def test_what_went_past_the_hold_while_the_bank_was_away_is_charged_when_the_answer_is_cut() -> None:
    paid = payment(60_000)
    paid.passed = 65
    reading = Reading(Usage(input=10, output=90), UsageSource.REPORTED)
    assert paid.within_hold(reading).usage.output == 65


def test_a_checkpoint_says_no_more_than_the_hold_covers() -> None:
    beat = payment(60_000).beat(90, Usage(input=10, output=90))
    assert beat is not None and (beat.usage, beat.checkpoint) == (Usage(input=10, output=50), 60_000)


def test_money_is_told_in_usd_and_tokens_in_tokens() -> None:
    usage = Usage(input=10, output=5)
    assert payment().told(usage, "") == {"cost": "0.000015", "balance": "0.00005"}
    tokens = payment(60, 5, price=TOKEN_PRICE, currency="TOK")
    assert tokens.told(usage, "") == {"cost": "0.0000", "tokens_left": 50}
    assert payment().headers(15_000) == [(b"x-farebox-cost", b"0.000015"), (b"x-farebox-balance", b"0.00005")]
    assert tokens.headers(15) == [(b"x-farebox-cost", b"0.0000"), (b"x-farebox-tokens-left", b"50")]
    assert tokens.headers(10_000)[1] == (b"x-farebox-tokens-left", b"0")


def test_an_unlimited_tier_is_told_the_cost_and_loses_nothing() -> None:
    house = payment(0, 7_000, tier=Tier("admin", unlimited=True), house=True)
    assert house.told(Usage(input=10), "") == {"cost": "0.00001", "balance": "0.000007"}


def test_what_the_house_set_aside_for_a_task_is_no_balance_of_its_caller() -> None:
    house = payment(60_000, 7_000, house=True)
    assert house.told(Usage(input=10), "") == {"cost": "0.00001", "balance": "0.000007"}
    assert house.covers(5) and not house.covers(10**6)
