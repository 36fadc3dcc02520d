"""A booking is what one transaction decided, as one document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from ledger.booking import Booking, provisional
from ledger.hold import CallFacts, Closing, Hold, Outcome, Rev, State, expire
from ledger.ids import uuid7
from ledger.journal import Posting, Unbalanced
from ledger.usage import Usage, UsageSource
from ledger.wallet import PRIORITY, Grant, Wallet

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _hold(wallet: Wallet, checkpoint: int) -> Hold:
    facts = CallFacts(uuid4(), "free", "m", "chat.completions", chat_id="c1")
    return Hold(uuid7(), wallet.id, 50, 0, State.OPEN, checkpoint, Usage(output=checkpoint), 7, 10**6, facts)


def _wallet() -> Wallet:
    wallet = Wallet(uuid7(), 0, 0)
    wallet.add(Grant(uuid7(), "paid", 100, PRIORITY["paid"], None, _NOW, "cash:test"))
    wallet.changed.clear()
    wallet.held = 50
    return wallet


def test_an_entry_of_nothing_is_not_booked() -> None:
    booking = Booking()
    assert booking.enter("charge", "charge:x", _NOW, [Posting("a", 0)]) is None
    assert booking.entries == booking.postings == []


def test_an_entry_that_does_not_balance_is_not_booked() -> None:
    booking = Booking()
    with pytest.raises(Unbalanced):
        booking.enter("charge", "charge:x", _NOW, [Posting("a", 1)])
    assert booking.entries == booking.postings == []


def test_a_void_books_no_charge() -> None:
    booking = Booking()
    hold = _hold(_wallet(), 0)
    booking.charge(provisional(hold, _NOW), Closing(None))
    assert booking.charges == []


def test_the_document_says_everything_a_closing_changes() -> None:
    booking, wallet = Booking(), _wallet()
    hold = _hold(wallet, 30)
    booking.charge(provisional(hold, _NOW), expire(wallet, hold))
    booking.touch(wallet, _NOW + timedelta(days=1))
    booking.holds[hold.id] = hold
    document = msgspec.json.decode(booking.document())
    [charge], [entry], [first, second] = document["charges"], document["entries"], document["postings"]
    assert (charge["request_id"], charge["rev"], charge["amount"]) == (str(hold.id), "provisional", 30)
    assert (charge["outcome"], charge["usage"], charge["chat_id"]) == ("recovered", {"output": 30}, "c1")
    assert entry["ref"] == f"charge:{hold.id}:provisional" and charge["entry_id"] == entry["id"]
    assert [(leg["line"], leg["amount"]) for leg in (first, second)] == [(0, 30), (1, -30)]
    assert document["wallets"] == [
        {"id": str(wallet.id), "spendable": 70, "held": 20, "due_at": "2026-11-22T12:00:00Z"}
    ]
    assert [grant["remaining"] for grant in document["grants"]] == [70]
    assert document["holds"] == [{"id": str(hold.id), "state": "quarantine", "spent": 30}]


def test_a_new_grant_is_inserted_and_not_updated_as_well() -> None:
    booking, wallet = Booking(), _wallet()
    grant = Grant(uuid7(), "promo", 5, PRIORITY["promo"], None, _NOW, "exp:promo")
    wallet.add(grant)
    booking.new_grants.append({"id": grant.id})
    booking.touch(wallet)
    wallet.burn(2)
    document = msgspec.json.decode(booking.document())
    assert document["grants"] == [] and document["wallets"][0]["due_at"] is None
    assert document["new_grants"] == [{"id": str(grant.id), "remaining": 3}]


@pytest.mark.parametrize(("used", "source"), [(0, UsageSource.ESTIMATED), (9, UsageSource.COUNTED)])
def test_a_silent_call_is_recovered_from_its_checkpoint(used: int, source: UsageSource) -> None:
    hold = _hold(_wallet(), used)
    said = provisional(hold, _NOW)
    assert (said.request_id, said.amount, said.usage, said.source) == (hold.id, used, Usage(output=used), source)
    assert (said.outcome, said.price_version, said.at) == (Outcome.RECOVERED, 7, _NOW)


def test_the_ref_of_a_charge_names_the_call_and_the_word() -> None:
    booking, wallet = Booking(), _wallet()
    hold = _hold(wallet, 30)
    said = provisional(hold, _NOW)
    booking.charge(said, Closing(Rev.LATE, 1, 0, (Posting("a", 1), Posting("b", -1))))
    assert booking.entries[0]["ref"] == f"charge:{hold.id}:late"
