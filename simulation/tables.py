"""The bank's tables as dictionaries: their rows, their CHECKs and unique keys, and transactions that can be undone.

What ``migrations/`` says of the ledger's tables, in Python: a row that breaks a rule is refused and the transaction is
taken back. Nothing here decides about money.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

EVER = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
"""What Postgres calls ``-infinity`` and ``infinity``."""


class Violated(Exception):
    """A row that a CHECK, a unique key or a reference does not allow."""


class WalletRow(Struct):
    id: UUID
    currency: str = "USD"
    spendable: int = 0
    held: int = 0
    state: str = "active"
    due_at: datetime = NEVER


class GrantRow(Struct):
    id: UUID
    wallet_id: UUID
    kind: str
    amount: int
    remaining: int
    priority: int
    starts_at: datetime
    expires_at: datetime | None
    source: str
    funding: str
    created_at: datetime = EVER


class HoldRow(Struct):
    id: UUID
    wallet_id: UUID
    amount: int
    price_version: int
    factor_ppm: int
    facts: str
    owner: str
    expires_at: datetime
    release_at: datetime
    opened_at: datetime
    budget_ids: list[UUID] | None = None
    budget_limits: list[int] | None = None
    spent: int = 0
    state: str = "open"
    checkpoint: int = 0
    usage: str = "{}"

    @property
    def house(self) -> bool:
        """Whether the house pays for it: then its wallet locks nothing."""
        return bool(msgspec.json.decode(self.facts).get("house"))


class ChargeRow(Struct):
    request_id: UUID
    rev: str
    wallet_id: UUID
    user_id: UUID
    model: str
    house: bool
    usage: dict[str, int]
    usage_source: str
    price_version: int
    factor_ppm: int
    variant: str
    amount: int
    overrun: int
    outcome: str
    entry_id: UUID | None
    at: datetime
    currency: str


class EntryRow(Struct):
    id: UUID
    kind: str
    ref: str
    booked_at: datetime


class PostingRow(Struct):
    entry_id: UUID
    line: int
    account: str
    amount: int
    wallet_id: UUID | None
    grant_id: UUID | None
    currency: str


class BudgetRow(Struct):
    id: UUID
    spent: int = 0
    held: int = 0


class RefundRow(Struct):
    id: UUID
    request_id: UUID
    wallet_id: UUID
    amount: int
    forgiven: int
    source: str
    entry_id: UUID


class CreditRow(Struct):
    id: UUID
    wallet_id: UUID
    kind: str
    amount: int
    source: str
    entry_id: UUID


_RULES: dict[type, Callable[[Any], bool]] = {
    WalletRow: lambda row: row.held >= 0 and row.spendable - row.held >= 0,
    GrantRow: lambda row: 0 <= row.remaining <= row.amount and row.amount > 0,
    HoldRow: lambda row: row.amount >= 0 and row.spent >= 0 and row.checkpoint >= 0,
    ChargeRow: lambda row: row.amount >= 0 and row.overrun >= 0 and row.factor_ppm >= 0,
    PostingRow: lambda row: row.amount != 0,
    BudgetRow: lambda row: row.held >= 0,
    RefundRow: lambda row: row.amount > 0 and 0 <= row.forgiven <= row.amount,
    CreditRow: lambda row: row.amount != 0,
    EntryRow: lambda row: True,
}


class Tables:
    """All rows of one bank. ``clock`` is the bank's own; ``locked`` are wallets and budgets that somebody else has
    locked just now; ``violations`` counts rows that were refused."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.locked: set[UUID] = set()
        self.violations: list[str] = []
        self.wallets: dict[UUID, WalletRow] = {}
        self.grants: dict[UUID, GrantRow] = {}
        self.holds: dict[UUID, HoldRow] = {}
        self.charges: dict[tuple[UUID, str], ChargeRow] = {}
        self.entries: dict[UUID, EntryRow] = {}
        self.postings: dict[tuple[UUID, int], PostingRow] = {}
        self.budgets: dict[UUID, BudgetRow] = {}
        self.refunds: dict[UUID, RefundRow] = {}
        self.credits: dict[UUID, CreditRow] = {}
        self.replicas: dict[str, datetime] = {}
        self.grants_of: defaultdict[UUID, list[GrantRow]] = defaultdict(list)
        self.charges_of: defaultdict[UUID, list[ChargeRow]] = defaultdict(list)
        self.postings_of: defaultdict[UUID, list[PostingRow]] = defaultdict(list)
        self.refunds_of: defaultdict[UUID, list[RefundRow]] = defaultdict(list)
        self._undo: list[Callable[[], object]] = []
        self._depth = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or, where something is raised, nothing."""
        self._depth += 1
        try:
            yield
        except BaseException:
            while self._undo:
                self._undo.pop()()
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                self._undo.clear()

    @property
    def in_transaction(self) -> bool:
        return self._depth > 0

    def add(self, table: dict[Any, Any], key: Any, row: Any, beside: list[Any] | None = None) -> None:
        """A row under its primary key, and in the list that finds it by something else. Raises Violated."""
        if key in table:
            self._refuse(f"{type(row).__name__} {key} is there already")
        self._check(row)
        table[key] = row
        self._undo.append(lambda: table.pop(key))
        if beside is not None:
            beside.append(row)
            self._undo.append(beside.pop)

    def change(self, row: Any, **fields: Any) -> None:
        """Other values for a row's fields. Raises Violated."""
        before = {name: getattr(row, name) for name in fields}
        _set(row, fields)
        self._undo.append(lambda: _set(row, before))
        self._check(row)

    def add_grant(self, row: GrantRow) -> None:
        """Raises Violated for an unknown wallet, or a source its wallet has already."""
        beside = self.grants_of[row.wallet_id]
        if row.wallet_id not in self.wallets or any(grant.source == row.source for grant in beside):
            self._refuse(f"grant {row.source} of wallet {row.wallet_id}")
        self.add(self.grants, row.id, row, beside)

    def add_entries(self, entries: Iterable[EntryRow], postings: Iterable[PostingRow]) -> None:
        """Entries and their legs. Raises Violated for one that does not balance."""
        sums: defaultdict[tuple[UUID, str], int] = defaultdict(int)
        for entry in entries:
            self.add(self.entries, entry.id, entry)
        for leg in postings:
            self.add(self.postings, (leg.entry_id, leg.line), leg, self.postings_of[leg.entry_id])
            sums[leg.entry_id, leg.currency] += leg.amount
        if any(sums.values()):
            self._refuse("an entry does not balance")

    def _check(self, row: Any) -> None:
        if not _RULES[type(row)](row):
            self._refuse(f"CHECK: {row}")

    def _refuse(self, why: str) -> None:
        self.violations.append(why)
        raise Violated(why)


def _set(row: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
