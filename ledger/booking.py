"""What one transaction has decided, gathered as the document that ``statements.WRITE`` books. Pure.

Wallets and holds are working copies: the caller changes them by the pure rules of ``wallet`` and ``hold`` and names
here what has to be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger.hold import Closing, Hold, Outcome, Settlement
from ledger.ids import uuid7
from ledger.journal import CURRENCY, Entry, Posting
from ledger.usage import Usage, UsageSource
from ledger.wallet import Grant, Wallet


@dataclass(slots=True)
class BudgetMove:
    """By how much a budget's sums change."""

    spent: int = 0
    held: int = 0


@dataclass(slots=True)
class Booking:
    """Rows to insert (charges, entries, postings, new grants) and to update (wallets, their changed grants, holds,
    budgets)."""

    charges: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    postings: list[dict[str, Any]] = field(default_factory=list)
    new_grants: list[dict[str, Any]] = field(default_factory=list)
    wallets: dict[UUID, tuple[Wallet, datetime | None]] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    budgets: dict[UUID, BudgetMove] = field(default_factory=dict)

    def enter(self, kind: str, ref: str, booked_at: datetime, legs: Iterable[Posting]) -> UUID | None:
        """A journal entry of these legs; None when there is nothing to move. Raises journal.Unbalanced."""
        postings = tuple([leg for leg in legs if leg.amount])
        if not postings:
            return None
        entry = Entry(uuid7(), kind, ref, booked_at, postings)
        self.entries.append({"id": entry.id, "kind": kind, "ref": ref, "booked_at": booked_at})
        for line, leg in enumerate(postings):
            self.postings.append(
                {
                    "entry_id": entry.id,
                    "line": line,
                    "account": leg.account,
                    "amount": leg.amount,
                    "wallet_id": leg.wallet_id,
                    "grant_id": leg.grant_id,
                    "currency": leg.currency,
                }
            )
        return entry.id

    def take_back(self, kind: str, entries: Iterable[list[Posting]], now: datetime) -> None:
        """The entries of grants that lost what they held: ``expiry`` or ``replaced``."""
        for legs in entries:
            self.enter(kind, f"{kind}:{legs[0].grant_id}:{now.isoformat()}", now, legs)

    def fill(self, wallet: Wallet, grant: Grant, now: datetime) -> UUID:
        """A grant out of its funding into the wallet: the id of its entry. The wallet must be touched, too."""
        funding = Posting(grant.funding, grant.remaining, currency=wallet.currency)
        self.make(wallet, grant, now)
        entry_id = self.enter("grant", f"grant:{grant.id}", now, [funding, wallet.add(grant)])
        assert entry_id is not None  # a grant brings at least one unit
        return entry_id

    def make(self, wallet: Wallet, grant: Grant, now: datetime) -> None:
        """The row of a grant, with what it brings as its amount."""
        self.new_grants.append(
            {
                "id": grant.id,
                "wallet_id": wallet.id,
                "kind": grant.kind,
                "amount": grant.remaining,
                "priority": grant.priority,
                "starts_at": now,
                "expires_at": grant.expires_at,
                "source": grant.source,
                "funding": grant.funding,
            }
        )

    def charge(self, event: Settlement, closing: Closing, currency: str = CURRENCY) -> None:
        """The charge and the entry of one closing; nothing for a void."""
        if closing.rev is None:
            return
        ref = f"charge:{event.request_id}:{closing.rev}"
        entry_id = self.enter("charge", ref, event.at, closing.postings)
        facts = event.facts
        self.charges.append(
            {
                "request_id": event.request_id,
                "rev": closing.rev,
                "wallet_id": event.wallet_id,
                "user_id": facts.user_id,
                "key_id": facts.key_id,
                "tier": facts.tier,
                "model": facts.model,
                "route": facts.route,
                "upstream": facts.upstream,
                "task": facts.task,
                "chat_id": facts.chat_id,
                "message_id": facts.message_id,
                "streamed": facts.streamed,
                "house": facts.house,
                "usage": event.usage.parts(),
                "usage_source": event.source,
                "problems": event.problems,
                "price_version": event.price_version,
                "factor_ppm": event.factor_ppm,
                "variant": event.variant,
                "amount": closing.amount,
                "overrun": closing.overrun,
                "outcome": event.outcome,
                "entry_id": entry_id,
                "at": event.at,
                "ttft_ms": event.ttft_ms,
                "duration_ms": event.duration_ms,
                "currency": currency,
            }
        )

    def touch(self, wallet: Wallet, due_at: datetime | None = None) -> None:
        """Write this wallet back; ``due_at`` None leaves its due instant as it is."""
        self.wallets[wallet.id] = (wallet, due_at)

    def close(self, hold: Hold, *, charged: int, freed: int) -> None:
        """Write this hold back; in its budgets, so much more is charged and so much less is locked."""
        self.holds[hold.id] = hold
        for budget_id in hold.budget_ids:
            move = self.budgets.setdefault(budget_id, BudgetMove())
            move.spent += charged
            move.held -= freed

    def document(self) -> bytes:
        """The JSON document of ``statements.WRITE``. A new grant's wallet must have been touched, too."""
        remaining = {
            grant.id: grant.remaining for wallet, _ in self.wallets.values() for grant in wallet.changed.values()
        }
        new_grants = [{**row, "remaining": remaining.pop(row["id"])} for row in self.new_grants]
        return msgspec.json.encode(
            {
                "charges": self.charges,
                "entries": self.entries,
                "postings": self.postings,
                "new_grants": new_grants,
                "grants": [{"id": grant_id, "remaining": left} for grant_id, left in remaining.items()],
                "wallets": [
                    {"id": wallet.id, "spendable": wallet.spendable, "held": wallet.held, "due_at": due_at}
                    for wallet, due_at in self.wallets.values()
                ],
                "holds": [{"id": hold.id, "state": hold.state, "spent": hold.spent} for hold in self.holds.values()],
            }
        )


def provisional(hold: Hold, at: datetime) -> Settlement:
    """What the ledger itself can say of a call whose process fell silent: its last checkpoint.

    Checkpoints are reckoned by the base price: which variant it was is known for sure only when the call ends.
    """
    return Settlement(
        request_id=hold.id,
        wallet_id=hold.wallet_id,
        usage=hold.usage,
        source=UsageSource.COUNTED if hold.usage != Usage() else UsageSource.ESTIMATED,
        amount=hold.checkpoint,
        price_version=hold.price_version,
        factor_ppm=hold.factor_ppm,
        outcome=Outcome.RECOVERED,
        at=at,
        facts=hold.facts,
    )
