"""Double entry: an entry that does not balance cannot be constructed. Pure.

Sign: a debit is positive, a credit negative. Asset and expense accounts grow by debits, liability and income accounts
by credits; so what a wallet holds is minus the sum of its postings.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from msgspec import Struct

REVENUE_USAGE = "rev:usage"
REVENUE_BREAKAGE = "rev:breakage"
EXPENSE_PROMO = "exp:promo"
EXPENSE_GOODWILL = "exp:goodwill"
EXPENSE_BAD_DEBT = "exp:bad_debt"
CURRENCY = "USD"
TOKENS = "TOK"
"""The currency of an allowance in tokens: one unit is one token."""


def wallet_account(wallet_id: UUID, kind: str) -> str:
    """The liability account of one kind of money (``paid``, ``promo``, ``plan``) in a wallet."""
    return f"wallet:{wallet_id}:{kind}"


class Unbalanced(ValueError):
    """The postings of an entry do not sum to zero in every currency."""


class Posting(Struct, frozen=True):
    """One leg: nano-units, debit positive. ``grant_id`` names the grant that was burnt, filled or given back to."""

    account: str
    amount: int
    wallet_id: UUID | None = None
    grant_id: UUID | None = None
    currency: str = CURRENCY


class Entry(Struct, frozen=True):
    """A balanced set of legs, booked at one instant for one reason. ``ref`` names what it is for, uniquely.

    Raises Unbalanced when the legs do not sum to zero per currency, or when there are none.
    """

    id: UUID
    kind: str
    ref: str
    booked_at: datetime
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        sums: dict[str, int] = {}
        for posting in self.postings:
            sums[posting.currency] = sums.get(posting.currency, 0) + posting.amount
        if not self.postings or any(sums.values()):
            raise Unbalanced(f"entry {self.ref}: the postings sum to {sums}")


def transfer(debits: Iterable[Posting], credit_account: str) -> tuple[Posting, ...]:
    """The given legs, of one currency, and the one system leg that balances them; legs of zero are left out."""
    legs = [leg for leg in debits if leg.amount]
    total = sum(leg.amount for leg in legs)
    return (*legs, Posting(credit_account, -total, currency=legs[0].currency)) if total else tuple(legs)
