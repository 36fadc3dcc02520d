"""The plain ones of a batch: in the books they are what the others are; what is not plain is left to the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ledger import statements
from ledger.audit import Actor
from ledger.hold import Settlement
from ledger.ids import uuid7
from ledger.plain import hold_document, hold_replies, not_posted, settlement_document
from ledger.store import BankUnavailable, BudgetAsk, HoldAsk
from tests.ledger.till import PPM, Till, facts_of, locked, statuses


def _ask(wallet: UUID, wanted: int, minimum: int = 0, *, house: bool = False, budgets: Any = ()) -> HoldAsk:
    return HoldAsk(uuid7(), wallet, wanted, minimum, 1, PPM, facts_of(house=house), None, budgets)


class TestHolds:
    def test_a_budgeted_ask_is_not_plain_and_a_call_asked_for_twice_is_told_once(self) -> None:
        plain, capped = _ask(uuid7(), 10), _ask(uuid7(), 10, budgets=(BudgetAsk(uuid7(), 5),))
        rows = msgspec.json.decode(hold_document([plain, capped, plain]))
        assert [(row["n"], row["id"]) for row in rows] == [(0, str(plain.request_id))]

    def test_a_wallet_needs_what_is_wanted_or_the_minimum_and_on_the_house_nothing(self) -> None:
        asks = [_ask(uuid7(), 10, 4), _ask(uuid7(), 10, 30), _ask(uuid7(), 10, house=True)]
        rows = sorted(msgspec.json.decode(hold_document(asks)), key=lambda row: row["n"])
        assert [(row["needed"], row["locks"]) for row in rows] == [(10, 10), (30, 10), (0, 0)]

    def test_each_reply_says_what_is_free_after_the_ones_before_it(self) -> None:
        wallet = uuid7()
        asks = [_ask(wallet, 10), _ask(wallet, 20), _ask(uuid7(), 5), _ask(wallet, 7), _ask(wallet, 3, house=True)]
        replies = hold_replies(
            asks, [(0, 100, True), (1, 100, False), (2, None, False), (3, 100, True), (4, 100, True)]
        )
        seen = [reply and (reply.status.value, reply.amount, reply.available, reply.headroom) for reply in replies]
        on_the_house = ("ok", 3, 83, 2**53 - 3)
        assert seen == [("ok", 10, 90, 90), ("duplicate", 0, 90, 90), None, ("ok", 7, 83, 83), on_the_house]

    async def test_plain_ones_and_others_stand_in_one_batch(self, till: Till) -> None:
        rich, poor = await till.wallet(100), await till.wallet(50)
        budget = BudgetAsk(uuid7(), 15)
        known = till.ask(rich, 10)
        asks = [till.ask(poor, 30), known, till.ask(rich, 20, budgets=(budget,)), till.ask(poor, 30), known]
        asks += [till.ask(uuid7(), 1), till.ask(rich, 5, house=True)]
        replies = await till.bank.open_holds(asks)
        assert statuses(replies) == ["ok", "ok", "capped", "poor", "duplicate", "unknown", "ok"]
        assert [(await till.balance(wallet)).held for wallet in (rich, poor)] == [10, 30]
        assert await till.broken() == []

    async def test_a_locked_or_suspended_wallet_keeps_nobody_waiting(self, till: Till) -> None:
        stuck, shut, free = [await till.wallet(100) for _ in range(3)]
        await till.sql("UPDATE wallets SET state = 'suspended' WHERE id = $1", shut)
        async with locked(till.engine, stuck), asyncio.timeout(30):
            replies = await till.bank.open_holds([till.ask(wallet, 10) for wallet in (stuck, shut, free)])
        assert statuses(replies) == ["busy", "suspended", "ok"]

    async def test_many_at_once_lock_no_more_than_there_is(self, till: Till) -> None:
        wallets = [await till.wallet(100) for _ in range(3)]
        batches = [[till.ask(wallet, 7) for wallet in wallets for _ in range(3)] for _ in range(12)]
        replies = [reply for batch in await asyncio.gather(*map(till.bank.open_holds, batches)) for reply in batch]
        held = sum([(await till.balance(wallet)).held for wallet in wallets])
        assert held == sum(reply.amount for reply in replies)
        assert {*statuses(replies)} <= {"ok", "poor", "busy"}
        assert await till.broken() == []

    async def test_what_others_book_meanwhile_is_seen(self, till: Till) -> None:
        """Again and again over the same connections: a plan that is made for all values is another one."""
        wallets = [await till.wallet(100_000) for _ in range(4)]
        others = [till.replica(f"other {number}") for number in range(3)]
        for _ in range(20):
            asks = [till.ask(wallet, 10) for wallet in wallets for _ in range(6)]
            batches = [asks[place::3] for place in range(3)]
            paying = [till.bank.credit(wallet, 5, "paid", source="test", funding="cash:test") for wallet in wallets]
            paid = asyncio.gather(*paying)
            answers = await asyncio.gather(*(bank.open_holds(each) for bank, each in zip(others, batches, strict=True)))
            await paid
            told = zip(chain(*batches), chain(*answers), strict=True)
            opened = [ask for ask, reply in told if reply.amount]
            await _closed(till, [till.event(ask, 5) for ask in opened])
            assert await till.broken() == []

    async def test_what_fails_after_a_hold_was_opened_leaves_the_batch_in_doubt(self, till: Till) -> None:
        """Whoever asked has to void them all: a refusal would say that nothing was done."""
        wallet, empty = await till.wallet(100), await till.wallet(0)
        bad = msgspec.structs.replace(till.ask(empty, 10, -1), factor_ppm=2**40)
        with pytest.raises(BankUnavailable):
            await till.bank.open_holds([till.ask(wallet, 10), till.ask(wallet, 10), _budgeted(till, empty, bad)])
        assert (await till.balance(wallet)).held == 20


def _budgeted(till: Till, wallet: UUID, ask: HoldAsk) -> HoldAsk:
    return msgspec.structs.replace(ask, wallet_id=wallet, budgets=(BudgetAsk(uuid7(), 10),))


class TestSettlements:
    def test_every_event_brings_the_id_of_an_entry(self) -> None:
        document, entries = settlement_document([])
        assert (msgspec.json.decode(document), entries) == ([], "{}")

    async def test_what_is_left_is_what_was_not_posted(self, till: Till) -> None:
        events = [till.event(till.ask(uuid7(), 5), 5) for _ in range(3)]
        assert not_posted(events, [(1,), (3,)]) == [events[1]]
        assert settlement_document(events)[1].count(",") == 2

    async def test_a_plain_batch_is_posted_whole(self, till: Till) -> None:
        wallets = [await till.wallet(100), await till.wallet(100)]
        asks = [await till.hold(wallet, 30) for wallet in wallets for _ in range(2)]
        events = [till.event(ask, amount) for ask, amount in zip(asks, (30, 0, 7, 12), strict=True)]
        assert await _plainly(till, events) == [1, 2, 3, 4]
        assert [(await till.balance(wallet)).spendable for wallet in wallets] == [70, 81]
        assert [(await till.balance(wallet)).held for wallet in wallets] == [0, 0]
        assert [await till.state(ask) for ask in asks] == ["settled"] * 4
        assert await till.value("SELECT count(*) FROM charges_to_roll") == 4
        assert await till.broken() == []

    async def test_a_charge_says_of_its_call_what_the_rules_would_write(self, till: Till) -> None:
        """The same call, posted plainly and by the rules, makes the same rows."""
        facts = msgspec.structs.replace(facts_of(), key_id=uuid7(), task="title", chat_id="c", streamed=True)
        rows = []
        for by_rules in (False, True):
            ask = msgspec.structs.replace(till.ask(await till.wallet(100), 30), facts=facts)
            await till.bank.open_holds([ask])
            event = msgspec.structs.replace(
                till.event(ask, 9), facts=facts, ttft_ms=3, problems=("odd", 'a"b'), variant="flex"
            )
            await (till.bank._close_each([event]) if by_rules else till.bank.close([event]))
            rows.append(await _about(till, event))
        assert rows[0] == rows[1]

    @pytest.mark.parametrize(
        "case",
        ["void", "more than there is", "on the house", "budget", "two grants", "ended grant", "again", "unknown"],
    )
    async def test_what_needs_weighing_is_left_to_the_rules(self, till: Till, case: str) -> None:
        wallet = await till.wallet(100)
        budgets = (BudgetAsk(uuid7(), 100),) if case == "budget" else ()
        ask = till.ask(wallet, 60, house=case == "on the house", budgets=budgets)
        if case != "unknown":
            assert statuses(await till.bank.open_holds([ask])) == ["ok"]
        event = till.event(ask, 101 if case == "more than there is" else 50)
        if case == "void":
            event = msgspec.structs.replace(event, void=True, amount=0)
        if case in ("two grants", "ended grant"):
            ends = datetime.now(UTC) + timedelta(hours=1 if case == "two grants" else -1)
            await till.sql("UPDATE wallets SET spendable = 130 WHERE id = $1", wallet)
            await till.sql(_GIFT, uuid7(), wallet, ends)
        if case == "again":
            await till.bank.close([event])
        assert await _plainly(till, [event]) == []

    async def test_one_that_needs_weighing_leaves_its_wallet_and_no_other(self, till: Till) -> None:
        one, other = await till.wallet(100), await till.wallet(100)
        asks = [await till.hold(wallet, 20) for wallet in (one, one, other)]
        events = [till.event(ask, amount) for ask, amount in zip(asks, (20, 90, 20), strict=True)]
        assert await _plainly(till, events) == [3]
        await till.bank.close(events)
        assert (await till.balance(one)).spendable == 0 and await till.posted("exp:bad_debt") == 10
        assert await till.broken() == []

    async def test_a_schema_that_is_a_step_back_leaves_all_of_it_to_the_rules(self, till: Till) -> None:
        wallet = await till.wallet(100)
        event = till.event(await till.hold(wallet, 20), 20)
        await till.sql("DROP FUNCTION close_plain")
        await till.sql("DROP FUNCTION open_plain")
        await till.bank.close([event])
        assert statuses(await till.bank.open_holds([till.ask(wallet, 10) for _ in range(3)])) == ["ok"] * 3
        assert (await till.balance(wallet)).spendable == 80

    async def test_what_calls_cost_beyond_their_holds_comes_from_what_is_free(self, till: Till) -> None:
        wallet = await till.wallet(100)
        cheap, dear, running = [await till.hold(wallet, amount) for amount in (30, 20, 40)]
        assert await _plainly(till, [till.event(cheap, 5), till.event(dear, 31)]) == []
        assert await _plainly(till, [till.event(cheap, 5), till.event(dear, 30)]) == [1, 2]
        assert ((await till.balance(wallet)).spendable, (await till.balance(wallet)).held) == (65, 40)
        await till.bank.close([till.event(running, 40)])
        assert await till.broken() == []

    async def test_an_emptied_grant_is_live_again_once_something_is_given_back(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 100)
        assert await _plainly(till, [till.event(ask, 100)]) == [1]
        assert await till.value("SELECT live FROM grants WHERE wallet_id = $1", wallet) is False
        await till.bank.refund(ask.request_id, 30, reason="slow", source="s", by=Actor("ann@example.org", "admin"))
        assert await till.value("SELECT live FROM grants WHERE wallet_id = $1", wallet) is True
        assert await _plainly(till, [till.event(await till.hold(wallet, 30), 30)]) == [1]
        assert await till.broken() == []

    async def test_what_every_call_moves_is_in_no_index(self, till: Till) -> None:
        """Where it is in one, each call writes an entry into every index of the table."""
        moved = "spendable|held|remaining"
        assert (
            await till.sql("SELECT FROM pg_indexes WHERE tablename IN ('wallets', 'grants') AND indexdef ~ $1", moved)
            == []
        )

    async def test_a_locked_wallet_is_left_out(self, till: Till) -> None:
        stuck, free = await till.wallet(100), await till.wallet(100)
        events = [till.event(await till.hold(wallet, 20), 20) for wallet in (stuck, free)]
        async with locked(till.engine, stuck), asyncio.timeout(30):
            unposted = await till.bank.close(events)
        assert unposted.busy == (events[0],)

    async def test_beats_that_come_between_take_nothing_from_a_settlement(self, till: Till) -> None:
        """Again and again over the same connections: a plan that is made for all values is another one."""
        wallets = [await till.wallet(100_000) for _ in range(6)]
        for _ in range(20):
            asks = [await till.hold(wallets[place % 6], 10) for place in range(20)]
            beats = [till.bank.beat([till.beat(ask, 3, 20)]) for ask in asks]
            events = [till.event(ask, place % 12) for place, ask in enumerate(asks)]
            await asyncio.gather(_closed(till, events[::2]), _closed(till, events[1::2]), till.bank.reap(), *beats)
            assert await till.broken() == []

    async def test_the_same_settlements_at_once_are_posted_once(self, till: Till) -> None:
        wallets = [await till.wallet(1000) for _ in range(4)]
        asks = [await till.hold(wallet, 20) for wallet in wallets for _ in range(5)]
        events = [till.event(ask, 11) for ask in asks]
        await asyncio.gather(*(till.bank.close(events[:: (-1) ** turn]) for turn in range(6)))
        while (await till.bank.close(events)).busy:
            await asyncio.sleep(0.01)
        assert [(await till.balance(wallet)).spendable for wallet in wallets] == [945] * 4
        assert await till.broken() == []


_GIFT = """
    INSERT INTO grants (id, wallet_id, kind, amount, remaining, priority, expires_at, source, funding)
    VALUES ($1, $2, 'plan', 30, 30, 0, $3, 'gift', 'exp:promo')
"""


async def _closed(till: Till, events: Sequence[Settlement]) -> None:
    """All of them, in as many turns as it takes."""
    while events := (await till.bank.close(events)).busy:
        await asyncio.sleep(0.003)


async def _plainly(till: Till, events: Sequence[Settlement]) -> list[int]:
    """The places of the events that are posted in one go."""
    rows = await till.sql(statements.CLOSE_PLAIN, *settlement_document(events))
    return sorted(row[0] for row in rows)


async def _about(till: Till, event: Settlement) -> list[Any]:
    """The rows of a call, without what differs from call to call."""
    own = {"request_id", "wallet_id", "entry_id", "grant_id", "id", "ref", "at", "booked_at", "account"}
    found = []
    for query in (
        "SELECT c.*, c.entry_id IS NULL AS free FROM charges c WHERE request_id = $1",
        "SELECT e.*, e.ref = concat_ws(':', 'charge', c.request_id, 'final') AS named "
        "FROM journal_entries e JOIN charges c ON c.entry_id = e.id WHERE c.request_id = $1",
        "SELECT p.*, replace(p.account, c.wallet_id::text, '') AS kind, p.wallet_id IS NULL AS system, "
        "p.grant_id IS NULL AS none FROM postings p JOIN charges c USING (entry_id) WHERE c.request_id = $1 "
        "ORDER BY line",
        "SELECT state, spent, amount FROM holds WHERE id = $1",
    ):
        rows = await till.sql(query, event.request_id)
        found.append([{name: value for name, value in row.items() if name not in own} for row in rows])
    return found
