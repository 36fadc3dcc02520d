"""The two database functions over dictionaries; that they are the same is held in ``tests/contracts/test_bank.py``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.ids import uuid7
from simulation.functions import Row, beat_holds, open_holds
from simulation.tables import Tables, WalletRow

NOW = datetime(2027, 1, 1, tzinfo=UTC)
TTL, HORIZON = timedelta(seconds=15), timedelta(seconds=45)


def opened(tables: Tables, wallet_id: UUID, wanted: int, minimum: int) -> tuple[UUID, Row]:
    hold_id = uuid7()
    columns: tuple[list[Any], ...] = ([hold_id], [wallet_id], [wanted], [minimum], [1], [1], ["{}"], [], [])
    return hold_id, open_holds(tables, "me", TTL, HORIZON, *columns)[0]


def beaten(tables: Tables, owner: str, hold_id: UUID, wallet_id: UUID, target: int) -> Row:
    return beat_holds(tables, owner, TTL, [hold_id], [wallet_id], [1], ["{}"], [target], [0])[0]


def test_a_hold_takes_what_is_there_and_a_beat_the_rest() -> None:
    tables, wallet = Tables(lambda: NOW), WalletRow(uuid7(), spendable=100)
    tables.wallets[wallet.id] = wallet
    hold_id, row = opened(tables, wallet.id, 60, 60)
    assert (row["status"], row["amount"], row["available"], wallet.held) == ("ok", 60, 40, 60)
    assert opened(tables, wallet.id, 60, 41)[1]["status"] == "poor"
    assert beaten(tables, "me", hold_id, wallet.id, 500)["amount"] == 100
    assert beaten(tables, "other", hold_id, wallet.id, 500)["status"] == "lost"


def test_what_somebody_else_has_locked_is_busy_and_the_beat_is_heard() -> None:
    tables, wallet = Tables(lambda: NOW), WalletRow(uuid7(), spendable=100)
    tables.wallets[wallet.id] = wallet
    hold_id, _ = opened(tables, wallet.id, 10, 10)
    tables.locked.add(wallet.id)
    assert opened(tables, wallet.id, 1, 1)[1]["status"] == "busy"
    assert beaten(tables, "me", hold_id, wallet.id, 20)["status"] == "busy"
    assert tables.holds[hold_id].checkpoint == 1
    assert opened(tables, uuid7(), 1, 1)[1]["status"] == "unknown"
