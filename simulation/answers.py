"""What each statement of the bank does, over dictionaries: the texts of ``ledger/statements.py`` and their answers.

The bank's own Python (locking, reading, deciding, writing back) runs unchanged above this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from ledger import statements
from simulation.functions import Row, beat_holds, open_holds
from simulation.plain import close_plain, open_plain
from simulation.tables import (
    EVER,
    NEVER,
    BudgetRow,
    ChargeRow,
    CreditRow,
    EntryRow,
    GrantRow,
    HoldRow,
    PostingRow,
    RefundRow,
    Tables,
    WalletRow,
)

Answer = Callable[..., list[Any]]


class _Remaining(msgspec.Struct):
    id: UUID
    remaining: int


class _WalletTold(msgspec.Struct):
    id: UUID
    spendable: int
    held: int
    due_at: datetime | None


class _HoldTold(msgspec.Struct):
    id: UUID
    state: str
    spent: int


class _Document(msgspec.Struct):
    charges: list[ChargeRow]
    entries: list[EntryRow]
    postings: list[PostingRow]
    new_grants: list[GrantRow]
    grants: list[_Remaining]
    wallets: list[_WalletTold]
    holds: list[_HoldTold]


_document = msgspec.json.Decoder(_Document).decode


def write(tables: Tables, document: str, _: Sequence[UUID]) -> list[Row]:
    """The one statement that books."""
    doc, now = _document(document), tables.clock()
    for charge in doc.charges:
        tables.add(tables.charges, (charge.request_id, charge.rev), charge, tables.charges_of[charge.request_id])
    for grant in doc.new_grants:
        grant.created_at = now
        tables.add_grant(grant)
    tables.add_entries(doc.entries, doc.postings)
    for left in doc.grants:
        tables.change(tables.grants[left.id], remaining=left.remaining)
    for told in doc.wallets:
        wallet = tables.wallets[told.id]
        due_at = told.due_at or wallet.due_at
        tables.change(wallet, spendable=told.spendable, held=told.held, due_at=due_at)
    for hold in doc.holds:
        tables.change(tables.holds[hold.id], state=hold.state, spent=hold.spent)
    return []


def _lock_wallets(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [row for row in _wait_for_wallets(tables, ids) if row["id"] not in tables.locked]


def _wait_for_wallets(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [_wallet(tables, tables.wallets[each]) for each in sorted(set(ids)) if each in tables.wallets]


def _wallet(tables: Tables, row: WalletRow) -> Row:
    now = tables.clock()
    return {
        "id": row.id,
        "spendable": row.spendable,
        "held": row.held,
        "currency": row.currency,
        "due": row.due_at <= now,
        "told": row.due_at == EVER,
        "now": now,
    }


def _make_budgets(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    for budget_id in ids:
        if budget_id not in tables.budgets:
            tables.add(tables.budgets, budget_id, BudgetRow(budget_id))
    return []


def _move_budgets(tables: Tables, ids: Iterable[UUID], spent: Iterable[int], held: Iterable[int]) -> list[Row]:
    for budget_id, more, locked in zip(ids, spent, held, strict=True):
        budget = tables.budgets[budget_id]
        tables.change(budget, spent=budget.spent + more, held=budget.held + locked)
    return []


def _budget(tables: Tables, budget_id: UUID) -> list[Any]:
    budget = tables.budgets.get(budget_id)
    return [] if budget is None else [(budget.spent, budget.held)]


def _wallets_known(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [{"id": each} for each in ids if each in tables.wallets]


def _grants(tables: Tables, wallets: Iterable[UUID], also: Iterable[UUID]) -> list[Row]:
    named = set(also)
    rows = [row for wallet in wallets for row in tables.grants_of[wallet] if row.remaining > 0 or row.id in named]
    return [msgspec.structs.asdict(row) for row in rows]


def _holds(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [msgspec.structs.asdict(tables.holds[each]) for each in sorted(set(ids)) if each in tables.holds]


def _prior(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    found = []
    for request_id in sorted(set(ids)):
        for charge in sorted(tables.charges_of[request_id], key=lambda row: row.rev != "provisional"):
            about = {"request_id": request_id, "rev": charge.rev, "amount": charge.amount, "overrun": charge.overrun}
            legs = _legs(tables, charge.entry_id)
            found += [{**about, **leg} for leg in legs] or [{**about, "account": None}]
    return found


def _prior_refunds(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [
        {"id": refund.id, "request_id": request_id, "amount": refund.amount, **leg}
        for request_id in sorted(set(ids))
        for refund in sorted(tables.refunds_of[request_id], key=lambda row: row.id)
        for leg in _legs(tables, refund.entry_id)
    ]


def _legs(tables: Tables, entry_id: UUID | None) -> list[Row]:
    legs = sorted(tables.postings_of[entry_id], key=lambda row: row.line) if entry_id else []
    return [
        {
            "account": leg.account,
            "posted": leg.amount,
            "wallet_id": leg.wallet_id,
            "grant_id": leg.grant_id,
            "currency": leg.currency,
        }
        for leg in legs
    ]


def _source_known(tables: Tables, wallet_id: UUID, source: str) -> list[Any]:
    return [(1,)] if any(grant.source == source for grant in tables.grants_of[wallet_id]) else []


def _is_silent(tables: Tables, hold: HoldRow) -> bool:
    return hold.state == "open" and hold.expires_at < tables.clock()


def _is_past_horizon(tables: Tables, hold: HoldRow) -> bool:
    return hold.state == "quarantine" and hold.release_at < tables.clock()


def _found(holds: Iterable[HoldRow], limit: int) -> list[Row]:
    return [{"id": hold.id, "wallet_id": hold.wallet_id} for hold in list(holds)[:limit]]


def _silent(tables: Tables, limit: int) -> list[Row]:
    silent = [hold for hold in tables.holds.values() if _is_silent(tables, hold)]
    return _found(sorted(silent, key=lambda hold: hold.expires_at), limit)


def _past_horizon(tables: Tables, limit: int) -> list[Row]:
    past = [hold for hold in tables.holds.values() if _is_past_horizon(tables, hold)]
    return _found(sorted(past, key=lambda hold: hold.release_at), limit)


def _still_silent(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [{"id": each} for each in ids if _is_silent(tables, tables.holds[each])]


def _still_past_horizon(tables: Tables, ids: Iterable[UUID]) -> list[Row]:
    return [{"id": each} for each in ids if _is_past_horizon(tables, tables.holds[each])]


def _balance(tables: Tables, wallet_id: UUID) -> list[Row]:
    wallet, now = tables.wallets.get(wallet_id), tables.clock()
    if wallet is None:
        return []
    by_kind: dict[str, int] = {}
    ends, plan_amount = [], 0
    for row in tables.grants_of[wallet_id]:
        running = row.expires_at is not None and row.expires_at > now
        if row.remaining > 0 or (row.kind == "plan" and running):
            by_kind[row.kind] = by_kind.get(row.kind, 0) + row.remaining
            if row.kind == "plan" and row.expires_at is not None:
                ends.append(row.expires_at)
                plan_amount += row.amount if running else 0
    return [
        {
            **_wallet(tables, wallet),
            "state": wallet.state,
            "by_kind": msgspec.json.encode(by_kind),
            "period_ends_at": max(ends, default=None),
            "plan_amount": plan_amount,
        }
    ]


def _sign_in(tables: Tables, owner: str) -> list[Row]:
    tables.replicas[owner] = tables.clock()
    return []


def _live(tables: Tables, ttl: timedelta) -> list[Any]:
    since = tables.clock() - ttl
    return [(sum(1 for beat in tables.replicas.values() if beat > since),)]


def _sign_out(tables: Tables, owner: str) -> list[Row]:
    tables.replicas.pop(owner, None)
    return []


def _drift(tables: Tables) -> list[Any]:
    live = {wallet: sum(row.remaining for row in rows) for wallet, rows in tables.grants_of.items()}
    return [(sum(abs(row.spendable - live.get(row.id, 0)) for row in tables.wallets.values()),)]


def _open_wallet(tables: Tables, wallet_id: UUID, currency: str) -> list[Row]:
    if wallet_id not in tables.wallets:
        tables.add(tables.wallets, wallet_id, WalletRow(wallet_id, currency, due_at=EVER))
    return []


def _currency_of(tables: Tables, wallet_id: UUID) -> list[Any]:
    wallet = tables.wallets.get(wallet_id)
    return [] if wallet is None else [(wallet.currency,)]


def _credit_known(tables: Tables, wallet_id: UUID, source: str) -> list[Row]:
    found = [row for row in tables.credits.values() if (row.wallet_id, row.source) == (wallet_id, source)]
    return [msgspec.structs.asdict(row) for row in found]


def _insert_credit(
    tables: Tables, id: UUID, wallet_id: UUID, kind: str, amount: int, _: str, source: str, entry_id: UUID, *__: Any
) -> list[Row]:
    tables.add(tables.credits, id, CreditRow(id, wallet_id, kind, amount, source, entry_id))
    return []


def _wallet_of_charge(tables: Tables, request_id: UUID) -> list[Any]:
    return [(row.wallet_id,) for row in tables.charges_of[request_id][:1]]


def _refund_known(tables: Tables, request_id: UUID, source: str) -> list[Row]:
    rows = tables.refunds_of[request_id]
    in_all = sum(row.amount for row in rows)
    return [{"id": row.id, "amount": row.amount, "in_all": in_all} for row in rows if row.source == source]


def _insert_refund(
    tables: Tables,
    id: UUID,
    request_id: UUID,
    wallet_id: UUID,
    amount: int,
    forgiven: int,
    _: str,
    source: str,
    entry_id: UUID,
    *__: Any,
) -> list[Row]:
    row = RefundRow(id, request_id, wallet_id, amount, forgiven, source, entry_id)
    tables.add(tables.refunds, id, row, tables.refunds_of[request_id])
    return []


def _nothing(tables: Tables, *_: Any) -> list[Any]:
    return []


ANSWERS: dict[str, Answer] = {
    statements.OPEN_PLAIN: open_plain,
    statements.OPEN: open_holds,
    statements.BEAT: beat_holds,
    statements.CLOSE_PLAIN: close_plain,
    statements.WRITE: write,
    statements.MAKE_BUDGETS: _make_budgets,
    statements.LOCK_WALLETS: _lock_wallets,
    statements.WAIT_FOR_WALLETS: _wait_for_wallets,
    statements.LOCK_BUDGETS: _nothing,
    statements.MOVE_BUDGETS: _move_budgets,
    statements.BUDGET: _budget,
    statements.WALLETS_KNOWN: _wallets_known,
    statements.GRANTS: _grants,
    statements.HOLDS: _holds,
    statements.PRIOR: _prior,
    statements.PRIOR_REFUNDS: _prior_refunds,
    statements.SOURCE_KNOWN: _source_known,
    statements.SILENT: _silent,
    statements.STILL_SILENT: _still_silent,
    statements.PAST_HORIZON: _past_horizon,
    statements.STILL_PAST_HORIZON: _still_past_horizon,
    statements.BALANCE: _balance,
    statements.SIGN_IN: _sign_in,
    statements.LIVE: _live,
    statements.SIGN_OUT: _sign_out,
    statements.DRIFT: _drift,
    statements.OPEN_WALLET: _open_wallet,
    statements.CURRENCY_OF: _currency_of,
    statements.CREDIT_KNOWN: _credit_known,
    statements.INSERT_CREDIT: _insert_credit,
    statements.WALLET_OF_CHARGE: _wallet_of_charge,
    statements.REFUND_KNOWN: _refund_known,
    statements.INSERT_REFUND: _insert_refund,
    statements.LEFT_BEHIND: _nothing,
}
"""A merge of wallets is not simulated: nobody is ever left behind."""

__all__ = ["ANSWERS", "NEVER", "write"]
