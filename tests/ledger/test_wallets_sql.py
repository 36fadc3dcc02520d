"""Wallets of money and of tokens: opened once, renewed alike, told apart by all that is booked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ledger.hold import Settlement
from ledger.journal import CURRENCY, TOKENS
from ledger.period import Plan
from ledger.price import BY_TOKENS, PPM, TOKEN_PRICE, charge_amount
from ledger.store import HoldAsk
from ledger.usage import Usage
from ledger.wallet import token_wallet_id
from tests.ledger.till import Till, facts_of

_PLAN = Plan(1000, name="tokens")


def _ask(till: Till, wanted: int) -> HoldAsk:
    """A call that a token wallet nobody opened yet would pay."""
    ask = till.ask(token_wallet_id(uuid4()), wanted, 1, plan=_PLAN)
    return HoldAsk(ask.request_id, ask.wallet_id, wanted, 1, BY_TOKENS, PPM, facts_of(), _PLAN)


def _event(till: Till, ask: HoldAsk, usage: Usage) -> Settlement:
    event = till.event(ask, charge_amount(usage, TOKEN_PRICE, PPM))
    return Settlement(
        event.request_id, event.wallet_id, usage, event.source, event.amount, BY_TOKENS, PPM, event.outcome, event.at,
        event.facts,
    )  # fmt: skip


def test_a_token_wallet_is_its_owners_and_not_the_owners_wallet() -> None:
    wallet = uuid4()
    assert token_wallet_id(wallet) == token_wallet_id(wallet) != wallet
    assert token_wallet_id(wallet) != token_wallet_id(uuid4())


async def test_a_token_wallet_is_opened_when_it_is_first_asked_and_pays_by_the_token(till: Till) -> None:
    ask = _ask(till, 400)
    [reply] = await till.bank.open_holds([ask])
    assert reply.status == "unknown"
    await till.bank.open_wallet(ask.wallet_id, TOKENS)
    [reply] = await till.bank.open_holds([ask])
    assert (reply.status, reply.amount, reply.available) == ("ok", 400, 600)
    await till.bank.close([_event(till, ask, Usage(input=100, cache_read=50, output=25))])
    balance = await till.bank.balance(ask.wallet_id, _PLAN)
    assert (balance.spendable, balance.held, balance.by_kind) == (825, 0, {"plan": 825})
    for table in ("postings", "charges", "wallets"):
        found = await till.sql(f"SELECT DISTINCT currency FROM {table}")
        assert [row[0] for row in found] == [TOKENS]
    assert await till.broken() == []


async def test_tokens_overrun_silence_and_expiry_are_booked_in_tokens(till: Till) -> None:
    dear, silent, wallet = _ask(till, 10), _ask(till, 10), uuid4()
    for ask in (dear, silent):
        await till.bank.open_wallet(ask.wallet_id, TOKENS)
        await till.bank.open_holds([ask])
    await till.bank.close([_event(till, dear, Usage(output=1500))])
    await till.past(silent, "expires_at")
    await till.bank.reap()
    await till.bank.open_wallet(wallet, TOKENS)
    await till.bank.balance(wallet, _PLAN)
    await till.bank.balance(wallet, None)
    await till.sql("UPDATE wallets SET due_at = now() WHERE id = $1", wallet)
    assert (await till.bank.balance(wallet, None)).spendable == 0
    assert {row[0] for row in await till.sql("SELECT currency FROM postings")} == {TOKENS}
    assert await till.broken() == []


async def test_opening_twice_changes_nothing(till: Till) -> None:
    wallet = await till.wallet(50)
    await till.bank.open_wallet(wallet, CURRENCY)
    assert (await till.balance(wallet)).spendable == 50
    fresh = uuid4()
    await asyncio.gather(*(till.bank.open_wallet(fresh, TOKENS) for _ in range(16)))
    assert await till.value("SELECT due_at = '-infinity' FROM wallets WHERE id = $1", fresh)


async def test_a_wallet_does_not_change_its_currency(till: Till) -> None:
    with pytest.raises(ValueError, match="holds USD"):
        await till.bank.open_wallet(await till.wallet(50), TOKENS)


async def test_grants_are_told_in_the_order_in_which_they_burn(till: Till) -> None:
    wallet, ends = await till.wallet(50), datetime.now(UTC) + timedelta(days=1)
    await till.bank.credit(wallet, 20, "promo", source="late", funding="exp:promo")
    await till.bank.credit(wallet, 10, "promo", source="soon", funding="exp:promo", expires_at=ends)
    await till.charge(wallet, 5)
    told = [(grant.source, grant.amount, grant.remaining) for grant in await till.bank.grants(wallet)]
    assert told[:2] == [("soon", 10, 5), ("late", 20, 20)] and told[2][1:] == (50, 50)
    assert (await till.bank.grants(wallet))[0].expires_at == ends
    await till.charge(wallet, 75)
    assert await till.bank.grants(wallet) == [] == await till.bank.grants(uuid4())


async def test_a_wallet_nobody_has_has_no_balance(till: Till) -> None:
    with pytest.raises(LookupError):
        await till.balance(uuid4())
