"""Merges: what one wallet holds goes into another with kind, order and end; what comes later follows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger.audit import Actor
from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.store import CreditOrder, WalletBusy
from ledger.sweep import Sweeper
from ledger.wallet import token_wallet_id
from tests.ledger.till import Till, until

_ANN = Actor("ann@example.org", "owner")


async def _spendable(till: Till, *wallets: UUID) -> list[int]:
    return [await till.value("SELECT spendable FROM wallets WHERE id = $1", wallet) for wallet in wallets]


async def test_every_live_grant_moves_with_its_kind_priority_end_and_funding(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    ends = datetime.now(UTC) + timedelta(days=3)
    await till.bank.credit(source, 30, "promo", source="gift", funding="exp:promo", expires_at=ends)
    await till.bank.adjust(CreditOrder(source, "deduct", 10, "", "d"))
    before = {(g.kind, g.priority, g.expires_at, g.funding, g.remaining) for g in await till.bank.grants(source)}
    assert await till.bank.merge(source, target, by=_ANN) == 60
    moved = [g for g in await till.bank.grants(target) if g.source.startswith("merge:")]
    assert {(g.kind, g.priority, g.expires_at, g.funding, g.remaining) for g in moved} == before
    assert await _spendable(till, source, target) == [0, 65] and await till.bank.grants(source) == []
    assert await till.broken() == []


async def test_repeating_moves_nothing(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    assert [await till.bank.merge(source, target) for _ in range(3)] == [40, 0, 0]
    assert await _spendable(till, source, target) == [0, 45]
    assert await till.value("SELECT count(*) FROM credits") == 2
    assert await till.value("SELECT sum(amount) FROM credits") == 0 and await till.broken() == []


async def test_an_empty_wallet_merges_too(till: Till) -> None:
    source, target = await till.wallet(), await till.wallet()
    assert await till.bank.merge(source, target) == 0
    assert await till.value("SELECT merged_into FROM wallets WHERE id = $1", source) == target
    assert await till.broken() == []


async def test_a_wallet_that_holds_money_for_a_call_is_busy(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    ask = await till.hold(source, 10)
    with pytest.raises(WalletBusy):
        await till.bank.merge(source, target)
    assert await _spendable(till, source, target) == [40, 5]
    await till.bank.close([till.event(ask, 10)])
    assert await till.bank.merge(source, target) == 30


async def test_what_the_target_holds_for_calls_stays_backed(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(50)
    ask = await till.hold(target, 50)
    await till.bank.merge(source, target)
    assert (await till.balance(target)).available == 40
    await till.bank.close([till.event(ask, 70)])
    assert await _spendable(till, target) == [20] and await till.broken() == []


async def test_money_that_has_ended_does_not_move(till: Till) -> None:
    source, target, ends = await till.wallet(40), await till.wallet(), datetime.now(UTC) + timedelta(hours=1)
    await till.bank.credit(source, 30, "promo", source="old", funding="exp:promo", expires_at=ends)
    await till.sql("UPDATE grants SET expires_at = clock_timestamp() - interval '1 second' WHERE source = 'old'")
    assert await till.bank.merge(source, target) == 40 and await till.broken() == []


async def test_what_moved_ends_in_its_new_wallet_at_its_instant(till: Till) -> None:
    source, target, plan = await till.wallet(), await till.wallet(due=True), Plan(100, name="pro")
    await till.bank.balance(target, plan)
    await till.sql("UPDATE wallets SET due_at = now() + interval '30 days' WHERE id = $1", target)
    ends = datetime.now(UTC) + timedelta(hours=1)
    await till.bank.credit(source, 30, "promo", source="old", funding="exp:promo", expires_at=ends)
    await till.bank.merge(source, target)
    assert (await till.bank.balance(target, plan)).by_kind == {"plan": 100, "promo": 30}
    assert await till.value("SELECT due_at FROM wallets WHERE id = $1", target) == ends
    assert await till.broken() == []


async def test_paid_money_is_counted_as_paid_in_once(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    await till.bank.merge(source, target)
    assert await till.posted("cash:test") == 45 and await till.broken() == []


async def test_the_token_wallets_merge_with_the_money(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    await till.bank.open_wallet(token_wallet_id(source), TOKENS)
    await till.bank.adjust(CreditOrder(token_wallet_id(source), "grant", 700, "", "t"))
    assert await till.bank.merge(source, target, by=_ANN) == 40
    assert await _spendable(till, token_wallet_id(source), token_wallet_id(target)) == [0, 700]
    assert await till.value("SELECT currency FROM wallets WHERE id = $1", token_wallet_id(target)) == TOKENS
    assert await till.broken() == []


async def test_what_comes_later_follows(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    ask = await till.charge(source, 30)
    await till.bank.merge(source, target)
    await till.bank.refund(ask.request_id, None, reason="", source="s")
    assert await _spendable(till, source, target) == [30, 15]
    assert await till.bank.follow_merges() == 1
    assert await _spendable(till, source, target) == [0, 45]
    assert await till.bank.follow_merges() == 0 and await till.broken() == []


async def test_the_sweeper_moves_on_what_came_later(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    await till.bank.merge(source, target)
    await till.bank.credit(source, 7, "paid", source="late", funding="cash:test")
    sweeper = Sweeper(till.bank, round_s=0.02)
    sweeper.start()

    async def followed() -> bool:
        return await _spendable(till, source, target) == [0, 52]

    await until(followed)
    await sweeper.stop()


async def test_nothing_is_due_on_a_wallet_that_was_merged(till: Till) -> None:
    source, target, plan = await till.wallet(due=True), await till.wallet(), Plan(100, name="pro")
    await till.bank.balance(source, plan)
    await till.bank.merge(source, target)
    [reply] = await till.bank.open_holds([till.ask(source, 10, plan=Plan(100, name="vip"))])
    assert reply.status == "poor" and await till.broken() == []


async def test_chains_of_merges_end_in_one_wallet(till: Till) -> None:
    first, second, third = [await till.wallet(10) for _ in range(3)]
    await till.bank.merge(first, second)
    await till.bank.merge(second, third)
    await till.bank.credit(first, 5, "paid", source="late", funding="cash:test")
    assert await till.bank.follow_merges() == 1
    assert await _spendable(till, first, second, third) == [0, 0, 35]
    assert await till.bank.merge(first, second) == await till.bank.merge(first, third) == 0
    assert await till.broken() == []


async def test_a_merge_into_itself_a_third_or_nobody_is_refused(till: Till) -> None:
    first, second, third = [await till.wallet(10) for _ in range(3)]
    with pytest.raises(ValueError, match="itself"):
        await till.bank.merge(first, first)
    with pytest.raises(LookupError):
        await till.bank.merge(first, uuid4())
    with pytest.raises(LookupError):
        await till.bank.merge(uuid4(), first)
    await till.bank.merge(first, second)
    with pytest.raises(ValueError, match="itself"):
        await till.bank.merge(second, first)
    with pytest.raises(ValueError, match="another already"):
        await till.bank.merge(first, third)
    assert await _spendable(till, first, second, third) == [0, 20, 10] and await till.broken() == []


async def test_money_and_tokens_do_not_mix(till: Till) -> None:
    money, tokens = await till.wallet(10), uuid4()
    await till.bank.open_wallet(tokens, TOKENS)
    with pytest.raises(ValueError, match="currencies"):
        await till.bank.merge(money, tokens)


async def test_a_merge_is_audited_and_stands_on_both_records(till: Till) -> None:
    source, target = await till.wallet(40), await till.wallet(5)
    await till.bank.merge(source, target, by=_ANN)
    [row] = await till.sql("SELECT *, before::text AS was, after::text AS is FROM audit")
    assert (row["actor"], row["action"], row["target_id"]) == ("ann@example.org", "wallet.merge", str(source))
    assert msgspec.json.decode(row["was"]) == {"source": 40, "target": 5}
    assert msgspec.json.decode(row["is"]) == {"source": 0, "target": 45, "moved": 40, "into": str(target)}
    credits = await till.sql("SELECT wallet_id, kind, amount, actor FROM credits ORDER BY amount")
    assert [tuple(row) for row in credits] == [
        (source, "merge", -40, "ann@example.org"),
        (target, "merge", 40, "ann@example.org"),
    ]


async def test_merges_in_all_directions_at_once_lose_nothing(till: Till) -> None:
    wallets = [await till.wallet(10) for _ in range(6)]
    pairs = [(a, b) for a in wallets for b in wallets if a != b]
    done = await asyncio.gather(*(till.bank.merge(a, b) for a, b in pairs), return_exceptions=True)
    assert all(isinstance(each, int | ValueError) or "being merged" in str(each) for each in done)
    while await till.bank.follow_merges():
        pass
    assert sum(await _spendable(till, *wallets)) == 60
    assert await till.value("SELECT count(*) FROM wallets WHERE merged_into IS NULL") == 1
    assert await till.broken() == []
