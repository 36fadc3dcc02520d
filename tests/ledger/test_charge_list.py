"""Charges are listed newest call first, each call once, by any of the filters, and read with everything behind them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger import charge_list
from ledger.charge_list import ChargeFilter, ListedCharge, charges, listing, whole_charge
from ledger.hold import Outcome
from ledger.reading import fetch
from ledger.store import HoldAsk
from ledger.usage import UsageSource
from tests.ledger.till import Till

_ANY = ChargeFilter()


async def _call(till: Till, amount: int, **labels: Any) -> HoldAsk:
    """A settled call; labels are facts, or ``outcome`` or ``source``."""
    said = {name: labels.pop(name) for name in ("outcome", "source") if name in labels}
    ask = till.ask(await till.wallet(1000), amount)
    ask = HoldAsk(
        ask.request_id, ask.wallet_id, amount, amount, ask.price_version, ask.factor_ppm,
        msgspec.structs.replace(ask.facts, **labels),
    )  # fmt: skip
    [reply] = await till.bank.open_holds([ask])
    assert reply.status == "ok"
    await till.bank.close([msgspec.structs.replace(till.event(ask, amount), **said)])
    return ask


async def _ids(till: Till, wanted: ChargeFilter, *, before: UUID | None = None, limit: int = 50) -> list[UUID]:
    return [charge.request_id for charge in await charges(till.engine, wanted, before=before, limit=limit)]


async def test_the_newest_call_comes_first_and_pages_follow_each_other(till: Till) -> None:
    made = [(await _call(till, amount)).request_id for amount in range(1, 6)][::-1]
    assert await _ids(till, _ANY) == made
    assert await _ids(till, _ANY, limit=2) == made[:2]
    assert await _ids(till, _ANY, before=made[1], limit=2) == made[2:4]
    assert await _ids(till, _ANY, before=made[-1]) == []


async def test_a_call_is_listed_once_by_its_last_word(till: Till) -> None:
    ask = await till.hold(await till.wallet(1000), 100)
    await till.bank.beat([till.beat(ask, 20)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    [listed] = await charges(till.engine, _ANY, before=None, limit=5)
    assert (listed.rev, listed.amount, listed.outcome) == ("provisional", 20, "recovered")
    await till.bank.close([till.event(ask, 25)])
    [listed] = await charges(till.engine, _ANY, before=None, limit=5)
    assert (listed.rev, listed.amount, listed.usage) == ("final", 25, {"output": 25})
    assert await charges(till.engine, ChargeFilter(outcome="recovered"), before=None, limit=5) == []


async def test_pages_are_full_however_many_words_were_taken_back(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charge_list, "_SPARE", 0)
    made = []
    for number in range(12):
        if number % 4 == 3:
            made.append((await _call(till, 1)).request_id)
            continue
        ask = await till.hold(await till.wallet(1000), 100)
        await till.past(ask, "expires_at")
        await till.bank.reap()
        await till.bank.close([till.event(ask, 25)])
        made.append(ask.request_id)
    for limit in (1, 2, 3, 5, 12, 50):
        seen: list[UUID] = []
        while page := await _ids(till, _ANY, before=seen[-1] if seen else None, limit=limit):
            assert len(page) == limit or len(seen) + len(page) == len(made)
            seen += page
        assert seen == made[::-1], limit


_KEY = uuid4()


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({"model": "rare"}, {"model": "rare"}),
        ({"tier": "gold"}, {"tier": "gold"}),
        ({"task": "title"}, {"task": "title"}),
        ({"route": "embeddings"}, {"route": "embeddings"}),
        ({"key_id": _KEY}, {"key_id": _KEY}),
        ({"chat_id": "c-1"}, {"chat_id": "c-1"}),
        ({"message_id": "m-1"}, {"message_id": "m-1"}),
        ({"outcome": Outcome.CALLER_LEFT}, {"outcome": "caller_left"}),
        ({"source": UsageSource.COUNTED}, {"usage_source": "counted"}),
    ],
    ids=lambda labels: next(iter(labels)),
)
async def test_each_filter_finds_its_own(till: Till, labels: dict[str, Any], wanted: dict[str, Any]) -> None:
    other = await _call(till, 5)
    ours = await _call(till, 7, **labels)
    assert await _ids(till, ChargeFilter(**wanted)) == [ours.request_id]
    assert await _ids(till, _ANY) == [ours.request_id, other.request_id]


async def test_what_is_usual_can_be_asked_for_too(till: Till) -> None:
    usual = await _call(till, 5)
    await _call(till, 7, task="title", route="embeddings", outcome=Outcome.CALLER_LEFT, source=UsageSource.COUNTED)
    for wanted in (
        ChargeFilter(task=""),
        ChargeFilter(route="chat.completions"),
        ChargeFilter(outcome="completed"),
        ChargeFilter(usage_source="reported"),
    ):
        assert await _ids(till, wanted) == [usual.request_id]


async def test_users_are_listed_together_newest_first(till: Till) -> None:
    one, two, _ = [await _call(till, 5) for _ in range(3)]
    again = await _call(till, 6, user_id=one.facts.user_id)
    users = [one.facts.user_id, two.facts.user_id]
    assert await _ids(till, ChargeFilter(users=users[:1])) == [again.request_id, one.request_id]
    assert await _ids(till, ChargeFilter(users=users)) == [again.request_id, two.request_id, one.request_id]
    assert await _ids(till, ChargeFilter(users=users), limit=2) == [again.request_id, two.request_id]


async def test_amount_currency_and_time_bound_the_list(till: Till) -> None:
    small, large = await _call(till, 5), await _call(till, 500)
    assert await _ids(till, ChargeFilter(min_amount=6)) == [large.request_id]
    assert await _ids(till, ChargeFilter(min_amount=200_000_000)) == []
    assert await _ids(till, ChargeFilter(currency="TOK")) == []
    now = datetime.now(UTC)
    assert len(await _ids(till, ChargeFilter(since=now - timedelta(minutes=1), until=now + timedelta(minutes=1)))) == 2
    assert await _ids(till, ChargeFilter(until=now - timedelta(minutes=1))) == []
    assert await _ids(till, ChargeFilter(since=now + timedelta(minutes=1))) == []
    assert await _ids(till, ChargeFilter(users=[small.facts.user_id], currency="USD")) == [small.request_id]


async def test_a_page_is_at_most_a_thousand(till: Till) -> None:
    await _call(till, 5)
    assert len(await charges(till.engine, _ANY, before=None, limit=10**9)) == 1
    assert f"LIMIT {1000 + charge_list._SPARE}" in listing(_ANY, None, 1000 + charge_list._SPARE)[0]


# A month's index is named after the table's where the schema made it, and by Postgres where a month was added later.
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "charges_\\d{6}_pkey"),
        ({"users": [UUID(int=7)]}, "user_id_request_id"),
        ({"model": "rare"}, "_by_model|model_request_id"),
        ({"task": "rare"}, "_by_task|task_request_id"),
        ({"route": "rare"}, "_by_route|route_request_id"),
        ({"chat_id": "rare"}, "_by_chat|chat_id_request_id"),
        ({"message_id": "rare"}, "_by_message|message_id_request_id"),
        ({"outcome": "rare"}, "_by_outcome|outcome_request_id"),
        ({"usage_source": "counted"}, "_by_source|usage_source_request_id"),
        ({"key_id": UUID(int=7)}, "_by_key|key_id_request_id"),
        ({"min_amount": 100_000_000}, "_large|request_id_idx"),
    ],
    ids=lambda each: next(iter(each), "all") if isinstance(each, dict) else "",
)
async def test_each_filter_is_read_by_its_index(till: Till, wanted: dict[str, Any], index: str) -> None:
    query, args = listing(ChargeFilter(**wanted), None, 50)
    async with till.engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        async with driver.transaction():
            # An empty table is read faster as a whole; what matters is whether the index fits the query.
            await driver.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            plan = "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN {query}", *args))
    assert re.search(index, plan), plan


async def test_a_charge_is_read_with_its_words_entries_legs_and_refunds(till: Till) -> None:
    ask = await till.hold(await till.wallet(40), 40)
    await till.bank.beat([till.beat(ask, 20)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    await till.bank.close([till.event(ask, 50)])
    await till.bank.refund(ask.request_id, 15, reason="kind", source="r-1")
    whole = await whole_charge(till.engine, ask.request_id)
    assert whole is not None
    assert [(word.rev, word.amount, word.overrun) for word in whole.words] == [
        ("provisional", 20, 0),
        ("final", 50, 10),
    ]
    assert [entry.kind for entry in whole.entries] == ["charge", "charge", "refund"]
    for entry in whole.entries:
        assert len(entry.legs) >= 2 and sum(leg.amount for leg in entry.legs) == 0
    assert {leg.account for leg in whole.entries[1].legs} >= {"rev:usage", "exp:bad_debt"}
    [refund] = whole.refunds
    assert (refund.amount, refund.forgiven, refund.reason, refund.source) == (15, 10, "kind", "r-1")
    assert whole.last.refunded == 15 and isinstance(whole.last, ListedCharge)


async def test_a_call_that_was_never_charged_has_no_charge(till: Till) -> None:
    voided = await till.hold(await till.wallet(40), 40)
    await till.bank.close([msgspec.structs.replace(till.event(voided, 0), void=True)])
    assert await whole_charge(till.engine, voided.request_id) is None
    assert await whole_charge(till.engine, uuid4()) is None
    assert await fetch(till.engine, "SELECT 1 FROM charges") == []
