"""The plain ones of a batch over dictionaries; that it is the same is held in ``tests/contracts/test_bank.py``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from ledger.ids import uuid7
from ledger.plain import hold_document, hold_replies, settlement_document
from ledger.store import HoldAsk
from simulation.plain import close_plain, open_plain
from simulation.tables import GrantRow, Tables, WalletRow
from tests.ledger.till import PPM, Till, facts_of

NOW = datetime(2027, 1, 1, tzinfo=UTC)
TTL, HORIZON = timedelta(seconds=15), timedelta(seconds=45)


def asked(wallet: WalletRow, wanted: int) -> HoldAsk:
    return HoldAsk(uuid7(), wallet.id, wanted, wanted, 1, PPM, facts_of())


def furnished() -> tuple[Tables, WalletRow]:
    tables, wallet = Tables(lambda: NOW), WalletRow(uuid7(), spendable=100)
    tables.wallets[wallet.id] = wallet
    tables.add_grant(GrantRow(uuid7(), wallet.id, "paid", 100, 100, 20, NOW, None, "s", "cash:s"))
    return tables, wallet


def test_holds_are_opened_where_all_of_them_are_covered() -> None:
    tables, wallet = furnished()
    asks = [asked(wallet, 40), asked(wallet, 40)]
    replies = hold_replies(asks, open_plain(tables, "me", TTL, HORIZON, hold_document(asks)))
    assert [reply and reply.available for reply in replies] == [60, 20]
    more = [asked(wallet, 10), asked(wallet, 11)]
    assert hold_replies(more, open_plain(tables, "me", TTL, HORIZON, hold_document(more))) == [None, None]
    assert wallet.held == 80


def test_settlements_are_posted_where_one_grant_covers_them() -> None:
    tables, wallet = furnished()
    asks = [asked(wallet, 40), asked(wallet, 40)]
    open_plain(tables, "me", TTL, HORIZON, hold_document(asks))
    events = [Till.event(None, ask, 30) for ask in asks]  # type: ignore[arg-type]  # it needs no till
    dear = msgspec.structs.replace(events[1], amount=61)
    assert close_plain(tables, *settlement_document([events[0], dear])) == []
    assert close_plain(tables, *settlement_document(events)) == [(1,), (2,)]
    assert (wallet.spendable, wallet.held, len(tables.postings)) == (40, 0, 4)
    assert close_plain(tables, *settlement_document(events)) == []
