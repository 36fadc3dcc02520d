"""The money's part of an explanation: what each purse would answer, and which rules say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from config.catalog import Model
from gateway.bill import Bill
from gateway.explain_money import MoneyLook
from gateway.order import Candidate
from gateway.purse import purses_of
from gateway.report import Report
from ledger.budget import Budget
from ledger.price import Price
from ledger.store import Balance, BankUnavailable, BudgetState
from ledger.usage import Usage
from ledger.wallet import token_wallet_id
from policies.explanation import Explanation
from policies.group import Group
from policies.principal import Principal
from policies.tier import Allowance, Tier
from tests.gateway.parts import order_of

USER, WALLET, TEAM = (UUID(int=number) for number in range(1, 4))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PRICE = Price(7, "small", {"input": 1_000_000, "output": 1_000_000})  # the small call: 32 000 nano-USD, 32 tokens
TESTER = Tier("tester", allowance=Allowance(1000, "tokens"))


class SomeBank:
    """Wallets by id, a budget, or nobody there."""

    def __init__(self, wallets: dict[UUID, Balance], budget: BudgetState | None = None) -> None:
        self._wallets = wallets
        self._budget = budget
        self.away = False

    async def balance(self, wallet_id: UUID, plan: Any) -> Balance:
        if self.away:
            raise BankUnavailable("away")
        if wallet_id not in self._wallets:
            raise LookupError
        return self._wallets[wallet_id]

    async def budget(self, budget_id: UUID) -> BudgetState:
        return self._budget or BudgetState()


async def told(tier: Tier, bank: SomeBank, group: Group | None = None) -> Explanation:
    who = Principal(USER, WALLET, "r", "s", "", "Ada", "user", tier.name, "active", "en", group=group)
    bill = Bill(PRICE, 1_000_000, Usage(input=16))
    order = order_of(who, tier, (Candidate(Model("small", "main", "small"), bill),))
    look, report = MoneyLook(order, purses_of(order, NOW), NOW), Report()
    await look.ask(bank)  # type: ignore[arg-type]
    look.tell(report)
    return report.explanation(tier.name, "small")


def verdicts(explanation: Explanation) -> dict[str, str]:
    return {rule.name: rule.verdict for rule in explanation.rules}


def money(amount: int, **more: Any) -> dict[UUID, Balance]:
    return {WALLET: Balance(amount, 0, {"paid": amount}, **more)}


async def test_enough_is_enough() -> None:
    explanation = await told(Tier("paid"), SomeBank(money(32_000)))
    assert explanation.can_make_request
    assert verdicts(explanation) == {"allowance": "pass", "balance": "pass"}
    assert explanation.rules[1].detail == {"available": "0.000032", "held": "0.0000", "needed": "0.000032"}


async def test_one_nano_too_little_is_too_little() -> None:
    explanation = await told(Tier("paid"), SomeBank(money(31_999)))
    assert (explanation.code, verdicts(explanation)["balance"]) == ("insufficient_balance", "refuse")


@pytest.mark.parametrize("state", ["suspended", "closed"])
async def test_a_wallet_that_may_not_be_spent_from(state: str) -> None:
    explanation = await told(Tier("paid"), SomeBank(money(10**9, state=state)))
    assert (explanation.code, verdicts(explanation)["balance"]) == ("account_suspended", "refuse")


async def test_tokens_that_suffice_need_no_look_at_the_money() -> None:
    explanation = await told(TESTER, SomeBank({token_wallet_id(WALLET): Balance(32, 0, {})}))
    assert explanation.can_make_request
    assert explanation.rules[0].detail["left"] == 32
    assert explanation.rules[1].says == "Tokens pay for this call; no money is needed."


async def test_tokens_nobody_asked_for_yet_are_all_there() -> None:
    explanation = await told(TESTER, SomeBank(money(0)))
    assert explanation.can_make_request and explanation.rules[0].detail["left"] == 1000


async def test_where_tokens_and_money_are_gone_both_rules_refuse() -> None:
    wallets = {token_wallet_id(WALLET): Balance(31, 0, {}), **money(0)}
    explanation = await told(TESTER, SomeBank(wallets))
    assert explanation.code == "allowance_exhausted" and "1000 tokens has 31 left" in explanation.message
    assert verdicts(explanation) == {"allowance": "refuse", "balance": "refuse"}
    paid = await told(TESTER, SomeBank({**wallets, **money(10**9)}))
    assert paid.can_make_request and paid.rules[0].detail["left"] == 31


async def test_an_allowance_in_money_shows_what_is_left_of_it() -> None:
    tier = Tier("free", allowance=Allowance(10**9))
    bank = SomeBank({WALLET: Balance(10, 0, {"plan": 10})})
    explanation = await told(tier, bank)
    assert verdicts(explanation) == {"allowance": "refuse", "balance": "refuse"}
    detail = explanation.rules[0].detail
    assert (detail["amount"], detail["left"], detail["resets_at"]) == ("1.0000", "0.00000001", "2026-12-01T00:00:00Z")


async def test_a_budget_is_a_rule_of_its_own() -> None:
    team = Group(TEAM, "Team", WALLET, shared=True, member_cap=Budget(40_000, "month"))
    open_to_all = await told(Tier("paid"), SomeBank(money(10**9), BudgetState(8_000, 0)), team)
    assert open_to_all.can_make_request and verdicts(open_to_all)["member_budget"] == "pass"
    held = await told(Tier("paid"), SomeBank(money(10**9), BudgetState(8_000, 1)), team)
    assert (held.code, verdicts(held)) == (
        "allowance_exhausted",
        {"allowance": "pass", "balance": "pass", "member_budget": "refuse"},
    )
    assert held.rules[-1].detail["left"] == "0.000031999"


async def test_the_house_pays_for_some() -> None:
    explanation = await told(Tier("admin", unlimited=True), SomeBank(money(0)))
    assert explanation.can_make_request and "The house pays" in explanation.rules[1].says


async def test_a_bank_that_is_away_says_nothing() -> None:
    bank = SomeBank(money(10**9))
    bank.away = True
    explanation = await told(TESTER, bank)
    assert (explanation.code, verdicts(explanation)) == ("ledger_unavailable", {"balance": "unknown"})
