"""The money's part of an explanation: what the bank would say to a hold, asked without holding anything."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.admission import ledger_away
from gateway.errors import Refusal
from gateway.order import Order
from gateway.purse import Purse, leaves_it_to_others, tokens_of, unpaid
from gateway.report import Report
from gateway.sentences import instant
from ledger.journal import CURRENCY, TOKENS
from ledger.money import format_usd
from ledger.period import Plan, bounds
from ledger.store import Balance, Bank, BankUnavailable, HoldReply, HoldStatus
from policies.caps import Cap

_STATES = {"suspended": HoldStatus.SUSPENDED, "closed": HoldStatus.CLOSED}


class MoneyLook:
    """What each purse of one call has. ``away``: the bank does not say."""

    def __init__(self, order: Order, purses: tuple[Purse, ...], now: datetime) -> None:
        self._order = order
        self._purses = purses
        self._now = now
        self._rooms: dict[Cap, int] = {}
        self._balances: dict[str, Balance] = {}
        self._replies: list[tuple[Purse, HoldReply]] = []
        self.away = False

    @property
    def paying(self) -> Purse:
        """The purse that would pay, or the last that was tried."""
        return self._replies[-1][0] if self._replies else self._purses[0]

    async def ask(self, bank: Bank) -> None:
        """Look at the purses in the order in which a call tries them."""
        try:
            for purse in self._purses:
                reply = await self._reply(bank, purse)
                self._replies.append((purse, reply))
                if not leaves_it_to_others(purse, reply):
                    return
        except BankUnavailable:
            self.away = True

    def tell(self, report: Report) -> None:
        """The rules of the money."""
        if self.away:
            report.unknown("balance", "The bank does not answer at the moment.", ledger_away())
            return
        paid = self._replies[-1][1].status is HoldStatus.OK
        refusal = None if paid else unpaid(self._order, self._replies, self._now)
        self._tell_allowance(report, refusal)
        self._tell_balance(report, refusal)
        for cap, room in self._rooms.items():
            self._tell_cap(report, cap, room, refusal)

    async def _reply(self, bank: Bank, purse: Purse) -> HoldReply:
        """What the bank would say to this purse's ask."""
        balance = await _balance(bank, purse)
        self._balances[purse.currency] = balance
        if balance.state in _STATES:
            return HoldReply(_STATES[balance.state], 0, 0)
        if balance.available < purse.minimum and not purse.house:
            return HoldReply(HoldStatus.POOR, 0, balance.available)
        for cap in purse.caps:
            state = await bank.budget(cap.id)
            self._rooms[cap] = cap.limit - state.spent - state.held
        narrow = min(purse.caps, key=self._rooms.__getitem__, default=None)
        if narrow is not None and self._rooms[narrow] < purse.minimum:
            return HoldReply(HoldStatus.CAPPED, 0, max(0, self._rooms[narrow]), narrow.id)
        return HoldReply(HoldStatus.OK, purse.minimum, balance.available - purse.minimum)

    def _tell_allowance(self, report: Report, refusal: Refusal | None) -> None:
        tokens = tokens_of(self._order.principal, self._order.tier)
        if tokens is not None and self.paying.house:
            report.passes("allowance", "It is not touched: the house pays.")
            return
        plan = tokens or self._purses[-1].plan
        if plan is None:
            report.passes("allowance", "Neither the plan nor a group gives an allowance.")
            return
        detail = self._tokens_detail(tokens) if tokens else self._money_detail(plan)
        if refusal is not None and refusal.details.get("limit") == "allowance":
            report.refuses("allowance", refusal, **detail)
            return
        unit = "tokens" if tokens else "USD"
        says = f"Of {detail['amount']} {unit} for this {plan.every}, {detail['left']} are left."
        report.passes("allowance", says, **detail)

    def _tokens_detail(self, plan: Plan) -> dict[str, Any]:
        known = self._balances.get(TOKENS)
        return {"unit": "tokens", "amount": plan.amount, "left": known.available if known else 0, **self._ends(plan)}

    def _money_detail(self, plan: Plan) -> dict[str, Any]:
        left = format_usd(self._balances[CURRENCY].by_kind.get("plan", 0))
        return {"unit": "usd", "amount": format_usd(plan.amount), "left": left, **self._ends(plan)}

    def _ends(self, plan: Plan) -> dict[str, Any]:
        return {"resets_at": instant(bounds(plan, self._now)[1])}

    def _tell_balance(self, report: Report, refusal: Refusal | None) -> None:
        money, balance = self._purses[-1], self._balances.get(CURRENCY)
        if balance is None:
            report.passes("balance", "Tokens pay for this call; no money is needed.")
            return
        available, needed = format_usd(balance.available), format_usd(money.minimum)
        detail = {"available": available, "held": format_usd(balance.held), "needed": needed}
        if refusal is not None and self._replies[-1][1].status is not HoldStatus.CAPPED:
            report.refuses("balance", refusal, **detail)
        elif self.paying.house:
            what = "this plan" if self._order.tier.unlimited else "this task"
            report.passes("balance", f"The house pays for {what}.", **detail)
        else:
            says = f"{available} USD are available; a small call needs at least {needed} USD."
            report.passes("balance", says, **detail)

    def _tell_cap(self, report: Report, cap: Cap, room: int, refusal: Refusal | None) -> None:
        limit, left = format_usd(cap.limit), format_usd(max(0, room))
        detail: dict[str, Any] = {"limit": limit, "left": left, "resets_at": instant(cap.ends_at)}
        name = f"{cap.of}_budget"
        if refusal is not None and refusal.details.get("limit") == name:
            report.refuses(name, refusal, **detail)
        else:
            report.passes(name, f"Of the budget of {limit} USD, {left} USD are left.", **detail)


async def _balance(bank: Bank, purse: Purse) -> Balance:
    """What the purse has. A wallet of tokens is opened by the first call that needs it, and has the whole plan then."""
    try:
        return await bank.balance(purse.wallet_id, purse.plan)
    except LookupError:
        whole = purse.plan.amount if purse.plan and purse.in_tokens else 0
        return Balance(whole, 0, {})
