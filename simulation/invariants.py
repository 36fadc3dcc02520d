"""What ``farebox verify`` recomputes, over dictionaries: I1 to I7, budgets and refunds. Pure.

Each check answers with a line for each row that breaks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

from ledger.journal import REVENUE_USAGE, TOKENS
from ledger.price import BY_TOKENS, TOKEN_PRICE, Price, charge_amount
from ledger.usage import KINDS, Usage
from simulation.tables import HoldRow, Tables

Broken = Iterator[str]


def entries(tables: Tables) -> Broken:
    """I1: each entry sums to zero in each currency, and is booked once."""
    for entry in tables.entries.values():
        sums: defaultdict[str, int] = defaultdict(int)
        for leg in tables.postings_of[entry.id]:
            sums[leg.currency] += leg.amount
        if not sums or any(sums.values()):
            yield f"I1 entry {entry.ref} sums to {dict(sums)}"
    refs = [entry.ref for entry in tables.entries.values()]
    if len(set(refs)) < len(refs):
        yield "I1 a ref is booked twice"


def wallets(tables: Tables) -> Broken:
    """I2: spendable = what live grants hold = what the wallet's postings sum to; each grant by itself, too."""
    by_wallet: defaultdict[UUID, int] = defaultdict(int)
    by_grant: defaultdict[UUID, int] = defaultdict(int)
    for leg in tables.postings.values():
        if leg.wallet_id is not None:
            by_wallet[leg.wallet_id] -= leg.amount
        if leg.grant_id is not None:
            by_grant[leg.grant_id] -= leg.amount
    for wallet in tables.wallets.values():
        live = sum(grant.remaining for grant in tables.grants_of[wallet.id])
        if not wallet.spendable == live == by_wallet[wallet.id]:
            yield f"I2 wallet: spendable {wallet.spendable}, grants {live}, postings {by_wallet[wallet.id]}"
    for grant in tables.grants.values():
        if grant.remaining != by_grant[grant.id]:
            yield f"I2 grant {grant.source}: remaining {grant.remaining}, postings {by_grant[grant.id]}"


def held(tables: Tables) -> Broken:
    """I3: nothing below zero; held = what open and quarantined holds lock."""
    locks: defaultdict[UUID, int] = defaultdict(int)
    for hold in tables.holds.values():
        locks[hold.wallet_id] += 0 if hold.house else locked(hold)
    for wallet in tables.wallets.values():
        if wallet.held != locks[wallet.id] or wallet.held > wallet.spendable:
            yield f"I3 wallet: held {wallet.held}, holds lock {locks[wallet.id]}, spendable {wallet.spendable}"
    yield from (f"I3 grant {grant.source} is below zero" for grant in tables.grants.values() if grant.remaining < 0)


def locked(hold: HoldRow) -> int:
    """What a hold keeps from being spent elsewhere."""
    if hold.state == "open":
        return hold.amount
    return hold.amount - hold.spent if hold.state == "quarantine" else 0


def holds(tables: Tables) -> Broken:
    """I4: a hold's spent = what its charges drew."""
    for hold in tables.holds.values():
        drawn = sum(
            leg.amount
            for charge in tables.charges_of[hold.id]
            if charge.entry_id is not None
            for leg in tables.postings_of[charge.entry_id]
            if leg.wallet_id is not None
        )
        if hold.spent != drawn or (hold.state == "quarantine" and hold.spent > hold.amount):
            yield f"I4 hold {hold.state}: spent {hold.spent}, drawn {drawn}"


def charged_once(tables: Tables) -> Broken:
    """I5: at most one provisional and one other word for each call; each ended call has its charge."""
    for request_id, charges in tables.charges_of.items():
        if sum(1 for charge in charges if charge.rev != "provisional") > 1:
            yield f"I5 call {request_id} is charged twice"
        if charges and request_id not in tables.holds:
            yield f"I5 charge {request_id} was never admitted"
    for hold in tables.holds.values():
        if hold.state != "open" and (hold.state != "voided") != bool(tables.charges_of[hold.id]):
            yield f"I5 hold {hold.id} is {hold.state}, and its charge does not say so"


def amounts(tables: Tables, prices: Mapping[int, Price]) -> Broken:
    """I6: each charge recomputes to its amount, and its entries book that as revenue."""
    for charge in tables.charges.values():
        usage = Usage(**charge.usage)
        price = prices.get(charge.price_version)
        if not charge.amount and usage == Usage():
            continue  # nothing was consumed, or nothing was known yet
        if (charge.price_version == BY_TOKENS) != (charge.currency == TOKENS):
            yield f"I6 charge {charge.request_id}: price {charge.price_version} in {charge.currency}"
        elif price is None or charge_amount(usage, price, charge.factor_ppm, charge.variant) != charge.amount:
            yield f"I6 charge {charge.request_id}: {charge.amount} does not recompute"
    for request_id, charges in tables.charges_of.items():
        booked = [leg for each in charges if each.entry_id for leg in tables.postings_of[each.entry_id]]
        revenue = -sum(leg.amount for leg in booked if leg.account == REVENUE_USAGE)
        if charges and revenue != charges[-1].amount:
            yield f"I6 call {request_id}: charged {charges[-1].amount}, booked {revenue}"


def usages(tables: Tables) -> Broken:
    """I7: parts are known kinds, and not below zero."""
    for charge in tables.charges.values():
        if not charge.usage.keys() <= set(KINDS) or any(part < 0 for part in charge.usage.values()):
            yield f"I7 charge {charge.request_id}: {charge.usage}"


def budgets(tables: Tables) -> Broken:
    """I11: a budget's spent = its calls' charges; its held = what its holds lock."""
    spent: defaultdict[UUID, int] = defaultdict(int)
    locks: defaultdict[UUID, int] = defaultdict(int)
    for hold in tables.holds.values():
        for budget_id in hold.budget_ids or ():
            charges = tables.charges_of[hold.id]
            spent[budget_id] += charges[-1].amount if charges else 0
            locks[budget_id] += locked(hold)
    for budget in tables.budgets.values():
        if (budget.spent, budget.held) != (spent[budget.id], locks[budget.id]):
            yield f"I11 budget: {budget.spent} and {budget.held}, calls {spent[budget.id]} and {locks[budget.id]}"


def refunds(tables: Tables) -> Broken:
    """I12: refunds of a call come to no more than its charge, and no grant gets back more than the call drew on it."""
    for request_id, made in tables.refunds_of.items():
        charges = tables.charges_of[request_id]
        if made and sum(refund.amount for refund in made) > charges[-1].amount:
            yield f"I12 call {request_id}: refunded more than {charges[-1].amount}"
        drawn: defaultdict[UUID, int] = defaultdict(int)
        for entry_id in [*(each.entry_id for each in charges), *(refund.entry_id for refund in made)]:
            for leg in tables.postings_of[entry_id] if entry_id else ():
                if leg.grant_id is not None:
                    drawn[leg.grant_id] += leg.amount
        yield from (f"I12 call {request_id}: a grant got {-sum} too much" for sum in drawn.values() if sum < 0)


_CHECKS: tuple[Callable[[Tables], Broken], ...] = (
    entries, wallets, held, holds, charged_once, usages, budgets, refunds,
)  # fmt: skip


def broken(tables: Tables, prices: Mapping[int, Price]) -> list[str]:
    """Everything that does not hold."""
    found = [line for check in _CHECKS for line in check(tables)]
    return found + list(amounts(tables, {**prices, BY_TOKENS: TOKEN_PRICE}))
