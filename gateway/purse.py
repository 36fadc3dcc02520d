"""What may pay for a call: the house where a rule says so, the tokens of the running period, then money. Pure.

The house pays for calls nobody typed up to a cap for each user, which is a budget of the bank like any other. Tokens
pay for calls that consume tokens alone: what is counted in seconds, characters or pictures is paid with money, whatever
the tier gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from gateway import sentences
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.language import sentence
from gateway.order import Candidate, Order
from ledger.hold import CallFacts
from ledger.journal import CURRENCY, TOKENS
from ledger.period import Plan, bounds
from ledger.price import PPM, TOKEN_PRICE
from ledger.store import BudgetAsk, HoldAsk, HoldReply, HoldStatus
from ledger.usage import KINDS, TOKEN_KINDS
from ledger.wallet import token_wallet_id
from policies.allowance import money_plan, token_plan
from policies.caps import Cap, caps_of, key_cap, task_cap
from policies.principal import Principal
from policies.tier import Tier

WHOLE_TASK = 256
"""Tokens of output: the answer to a task is seldom longer. The house does not begin one that it may have to cut."""

_OTHER_KINDS = tuple(kind for kind in KINDS if kind not in TOKEN_KINDS)
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)

Of = Literal["tokens", "allowance", "balance"]
"""What a call was paid from, as a person says it."""


class Purse(Struct, frozen=True):
    """One wallet that may pay. Its amounts and its candidates' bills are in ``currency``: nano-USD, or tokens.

    ``wanted`` is set aside, or what is there, but not less than ``minimum``. ``house``: the house pays within ``caps``,
    and the wallet only names the caller.
    """

    wallet_id: UUID
    currency: str
    plan: Plan | None
    candidates: tuple[Candidate, ...]
    wanted: int
    minimum: int
    caps: tuple[Cap, ...] = ()
    house: bool = False

    @property
    def in_tokens(self) -> bool:
        return self.currency == TOKENS

    @property
    def of(self) -> Of:
        return "tokens" if self.in_tokens else "allowance" if self.plan else "balance"

    @property
    def cost(self) -> int:
        """What a window that counts money counts: nano-USD."""
        return 0 if self.currency == TOKENS else self.wanted

    def ask(self, request_id: UUID, facts: CallFacts) -> HoldAsk:
        """The question to the bank."""
        bill = self.candidates[0].bill
        return HoldAsk(
            request_id,
            self.wallet_id,
            self.wanted,
            self.minimum,
            bill.price.version,
            bill.factor_ppm,
            replace(facts, house=True) if self.house else facts,
            self.plan,
            tuple([BudgetAsk(cap.id, cap.limit) for cap in self.caps]) if self.caps else (),
        )


def purses_of(order: Order, now: datetime) -> tuple[Purse, ...]:
    """Those that may pay for this call, in the order in which they are tried."""
    money, terms = _money(order, now), order.terms
    house = _house(order, money, now) if terms.rule is not None else None
    plan = _paying_plan(order) if terms.tier.allowance is not None else None
    own = (_tokens(order, plan), money) if plan is not None and plan.amount and money.wanted else (money,)
    return own if house is None else (house, *own)


def tokens_of(principal: Principal, tier: Tier) -> Plan | None:
    """The tokens the caller is given each period. Who spends a shared wallet has none beside it."""
    if principal.group is not None and principal.group.shared:
        return None
    return token_plan(tier, principal.since or _SINCE_EVER)


def money_of(principal: Principal, tier: Tier) -> Plan | None:
    """The money the caller's wallet is given each period."""
    return money_plan(tier, principal.since or _SINCE_EVER, principal.group)


def leaves_it_to_others(purse: Purse, reply: HoldReply) -> bool:
    """Whether the next purse is tried: this one is empty, or the house has paid as much for this user as it will."""
    return reply.status is HoldStatus.POOR or (purse.house and reply.status is HoldStatus.CAPPED)


def unpaid(order: Order, replies: Sequence[tuple[Purse, HoldReply]], now: datetime) -> Refusal:
    """The refusal of a call that no purse pays. ``replies`` are the bank's, in the order in which it was asked."""
    purse, reply = replies[-1]
    match reply.status:
        case HoldStatus.DUPLICATE:
            return Refusal.of("idempotency_conflict", sentence("request_repeated"))
        case HoldStatus.SUSPENDED | HoldStatus.CLOSED:
            return sentences.suspended()
        case HoldStatus.CAPPED:
            cap = next(cap for cap in purse.caps if cap.id == reply.budget)
            return sentences.capped(cap, reply.available, purse.minimum, order.tier)
    plan = _paying_plan(order)
    if plan is not None:
        needed = order.foreseen.input_tokens + order.least
        left = next((told.available for asked, told in replies if asked.in_tokens), 0)
        return sentences.without_tokens(plan, left, needed, order.tier, order.url, bounds(plan, now)[1])
    ends = bounds(purse.plan, now)[1] if purse.plan else None
    return sentences.without_money(reply.available, purse.minimum, order.tier, order.url, purse.plan, ends)


def _money(order: Order, now: datetime) -> Purse:
    principal, tier = order.principal, order.terms.tier
    plan = money_of(principal, tier) if tier.allowance is not None or principal.group is not None else None
    if order.terms.surface.free:
        return Purse(principal.wallet_id, CURRENCY, plan, order.candidates, 0, 0)
    limits = principal.limits
    # Where there may be a budget beside the wallet, the running period has to be found.
    capped = principal.group is not None or (limits is not None and limits.budget is not None)
    caps = caps_of(principal, now) if capped else ()
    if tier.unlimited:
        # The house pays, and no wallet: what a key may cost bounds it all the same, a member's share of a wallet not.
        caps = tuple(cap for cap in caps if cap.of == "key")
        return Purse(principal.wallet_id, CURRENCY, plan, order.candidates, 0, 0, caps, house=True)
    wanted = _dearest(order.candidates, _first_share(order))
    minimum = min(wanted, _dearest(order.candidates, order.least))
    return Purse(principal.wallet_id, CURRENCY, plan, order.candidates, wanted, minimum, caps)


def _house(order: Order, money: Purse, now: datetime) -> Purse | None:
    """The house's own, for a call whose rule says that the house pays. A key's budget bounds such a call, too."""
    cap = task_cap(order.rule, order.principal.user_id, now) if order.rule is not None else None
    if cap is None or not money.wanted:
        return None
    of_key = key_cap(order.principal.limits, now)
    caps = (cap,) if of_key is None else (cap, of_key)
    wanted = _dearest(order.candidates, order.reserve)
    least = min(wanted, _dearest(order.candidates, max(order.least, WHOLE_TASK)))
    return replace(money, wanted=wanted, minimum=least, caps=caps, house=True)


def _tokens(order: Order, plan: Plan) -> Purse:
    bill = Bill(TOKEN_PRICE, PPM if order.rule is None else order.rule.factor_ppm, order.foreseen)
    candidates = tuple(Candidate(each.model, bill, each.estimated) for each in order.candidates)
    wanted, least = bill.expected(_first_share(order)), bill.expected(order.least)
    return Purse(token_wallet_id(order.principal.wallet_id), TOKENS, plan, candidates, wanted, min(wanted, least))


def _first_share(order: Order) -> int:
    """Output tokens that the caller's own wallet sets aside to begin with.

    A task is asked for at the same instant as the message it belongs to, so it takes the least it can, or the message
    would find nothing left: of a dear model a few hundred tokens are all that a small wallet has. Its hold grows with
    its answer as any other does.
    """
    return min(order.reserve, order.least) if order.principal.task else order.reserve


def _dearest(candidates: tuple[Candidate, ...], output: int) -> int:
    if len(candidates) == 1:
        return candidates[0].bill.expected(output)
    return max([each.bill.expected(output) for each in candidates])


def _paying_plan(order: Order) -> Plan | None:
    """The tokens that would pay for this call, if there are some left: None where it consumes none, or other things."""
    if order.tier.allowance is None or not (order.foreseen.input_tokens or order.reserve):
        return None
    if any(getattr(order.foreseen, kind) for kind in _OTHER_KINDS):
        return None
    return tokens_of(order.principal, order.tier)
