"""A wallet and its grants, as a working copy inside one transaction. Pure.

Money in a wallet is the sum of its live grants; a grant is money of one kind with its own end. The store locks and
reads a wallet, these methods decide, the store writes back what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid5

from ledger.journal import CURRENCY, REVENUE_BREAKAGE, Posting, wallet_account

GrantKind = Literal["plan", "promo", "paid"]

# Plan money first, it ends with its period; money somebody paid for last.
PRIORITY: dict[GrantKind, int] = {"plan": 0, "promo": 10, "paid": 20}

_NEVER = datetime.max.replace(tzinfo=UTC)


def token_wallet_id(wallet_id: UUID) -> UUID:
    """The wallet of an owner's allowance in tokens, beside the one that holds its money."""
    return uuid5(wallet_id, "tokens")


@dataclass(slots=True)
class Grant:
    """Money of one kind. ``funding`` is the account it came from; what expires goes back there, but paid money that
    expires is breakage."""

    id: UUID
    kind: GrantKind
    remaining: int
    priority: int
    expires_at: datetime | None
    created_at: datetime
    funding: str
    source: str = ""

    def order(self) -> tuple[int, datetime, datetime]:
        """Burn order: priority, then the earliest end, then the earliest made."""
        return self.priority, self.expires_at or _NEVER, self.created_at


@dataclass(slots=True)
class Wallet:
    """``spendable`` = sum of what its grants hold; ``held`` = set aside for calls under way. Units of its currency:
    nano-USD, or tokens."""

    id: UUID
    spendable: int
    held: int
    currency: str = CURRENCY
    grants: list[Grant] = field(default_factory=list)
    changed: dict[UUID, Grant] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.spendable - self.held

    def burn(self, amount: int) -> list[Posting]:
        """Take ``amount`` out of the grants, in burn order, as debits. Raises ValueError beyond ``spendable``."""
        postings = []
        left = amount
        for grant in sorted(self.grants, key=Grant.order):
            take = min(left, grant.remaining)
            if take:
                postings.append(self._move(grant, -take))
                left -= take
        if left:
            raise ValueError(f"wallet {self.id}: {amount} asked of {self.spendable + amount - left} in its grants")
        return postings

    def unburn(self, burnt: Iterable[Posting], amount: int) -> list[Posting]:
        """Give ``amount`` back to the grants it was taken from *as recorded*, last burnt first, as credits."""
        grants = {grant.id: grant for grant in self.grants}
        postings = []
        left = amount
        for leg in reversed([leg for leg in burnt if leg.grant_id is not None]):
            give = min(left, leg.amount)
            if give:
                postings.append(self._move(grants[leg.grant_id], give))  # type: ignore[index]  # filtered above
                left -= give
        if left:
            raise ValueError(f"wallet {self.id}: {left} more to give back than was burnt")
        return postings

    def add(self, grant: Grant) -> Posting:
        """A new grant, as the wallet's credit leg; its ``remaining`` is what it brings."""
        amount, grant.remaining = grant.remaining, 0
        self.grants.append(grant)
        return self._move(grant, amount)

    def pour(self, other: Wallet, ids: Callable[[], UUID], source: str) -> tuple[list[Posting], list[Grant]]:
        """Move every live grant into ``other``, its kind, priority, end and funding kept: the legs, and the grants made
        there. Each grant's new source is ``source`` and the id it had."""
        legs, made = [], []
        for grant in sorted(self.grants, key=Grant.order):
            if grant.remaining:
                moved = replace(grant, id=ids(), source=f"{source}:{grant.id}")
                legs += [self._move(grant, -grant.remaining), other.add(moved)]
                made.append(moved)
        return legs, made

    def expire(self, now: datetime) -> list[list[Posting]]:
        """Take back what has ended: the balanced legs of one entry for each grant.

        Money that backs a hold stays until the hold is closed: a call belongs to the period in which it was admitted,
        and does not draw on the next one's money because this one's was taken away under it.
        """
        return self._take_back(
            [grant for grant in self.grants if grant.expires_at is not None and grant.expires_at <= now]
        )

    def replace_plan(self, source: str) -> list[list[Posting]]:
        """Take back what other plans left than the one of this ``source``: as ``expire``, one entry for each grant."""
        return self._take_back([grant for grant in self.grants if grant.kind == "plan" and grant.source != source])

    def next_end(self) -> datetime | None:
        """When the next grant that still holds money ends; None where none ends."""
        return min((g.expires_at for g in self.grants if g.remaining and g.expires_at), default=None)

    def _take_back(self, ended: list[Grant]) -> list[list[Posting]]:
        leaving = sum(grant.remaining for grant in ended) - self.held
        entries = []
        for grant in sorted(ended, key=Grant.order):
            take = min(grant.remaining, leaving)
            if take > 0:
                leaving -= take
                leg = self._move(grant, -take)
                account = REVENUE_BREAKAGE if grant.kind == "paid" else grant.funding
                entries.append([leg, Posting(account, -take, currency=self.currency)])
        return entries

    def _move(self, grant: Grant, amount: int) -> Posting:
        grant.remaining += amount
        self.spendable += amount
        self.changed[grant.id] = grant
        return Posting(wallet_account(self.id, grant.kind), -amount, self.id, grant.id, self.currency)
