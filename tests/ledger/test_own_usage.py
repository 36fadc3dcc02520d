"""What one person used: every sum from its own charges, and nobody else's in any of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from ledger.hold import CallFacts
from ledger.ids import uuid7_at
from ledger.own_usage import OwnFilter, OwnUsage, own_usage
from ledger.store import HoldAsk
from tests.ledger.till import Till

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
ADA, BOB = uuid4(), uuid4()


async def call(till: Till, at: datetime, amount: int, **facts: Any) -> None:
    """One charged call that was admitted at this instant."""
    told = CallFacts(**{"user_id": ADA, "tier": "t", "model": "small", "route": "chat.completions", **facts})
    wallet = await till.wallet(amount)
    wanted = 0 if told.house else amount
    ask = HoldAsk(uuid7_at(at), wallet, wanted, wanted, till.price_version, 1_000_000, told)
    await till.bank.open_holds([ask])
    event = till.event(ask, amount)
    await till.bank.close([replace(event, usage=replace(event.usage, input=7, cache_read=3))])


def asked(**more: Any) -> OwnFilter:
    span = {"users": (ADA,), "since": NOON - timedelta(days=3), "until": NOON + timedelta(hours=1)}
    return OwnFilter(**{**span, **more})


def shown(rows: list[OwnUsage]) -> list[tuple[Any, ...]]:
    return [(row.key, row.calls, row.amount, row.house_amount) for row in rows]


async def some_calls(till: Till) -> None:
    await call(till, NOON - timedelta(days=1), 10, chat_id="a", message_id="m1")
    await call(till, NOON - timedelta(minutes=5), 20, chat_id="a", message_id="m2")
    await call(till, NOON - timedelta(minutes=4), 5, chat_id="a", task="title_generation", house=True)
    await call(till, NOON - timedelta(minutes=3), 40, chat_id="b", model="large")
    await call(till, NOON - timedelta(minutes=2), 80)
    await call(till, NOON - timedelta(minutes=1), 999, user_id=BOB, chat_id="a", message_id="m1")


async def test_in_all_and_by_day_model_and_task(till: Till) -> None:
    await some_calls(till)
    assert shown(await own_usage(till.engine, asked(), None)) == [(None, 5, 150, 5)]
    days = [each.replace(hour=0) for each in (NOON - timedelta(days=1), NOON)]
    assert shown(await own_usage(till.engine, asked(), "day")) == [(days[0], 1, 10, 0), (days[1], 4, 140, 5)]
    assert shown(await own_usage(till.engine, asked(), "model")) == [("large", 1, 40, 0), ("small", 4, 110, 5)]
    assert shown(await own_usage(till.engine, asked(), "task")) == [("", 4, 150, 0), ("title_generation", 1, 0, 5)]


async def test_a_chat_and_an_answer_have_their_own_sums(till: Till) -> None:
    await some_calls(till)
    [chat] = await own_usage(till.engine, asked(chat_id="a"), None)
    assert (chat.calls, chat.amount, chat.house_amount) == (3, 30, 5)
    assert (chat.input_tokens, chat.cached_tokens, chat.output_tokens) == (30, 9, 35)
    assert shown(await own_usage(till.engine, asked(message_id="m1"), None)) == [(None, 1, 10, 0)]
    assert shown(await own_usage(till.engine, asked(chat_id="nobody's"), None)) == [(None, 0, 0, 0)]
    assert shown(await own_usage(till.engine, asked(chat_id="a", message_id="m2"), "model")) == [("small", 1, 20, 0)]


async def test_chats_come_by_their_last_call_a_page_at_a_time(till: Till) -> None:
    await some_calls(till)
    first = await own_usage(till.engine, asked(), "chat", limit=1)
    second = await own_usage(till.engine, asked(), "chat", after=first[0].last, limit=1)
    assert shown([*first, *second]) == [("b", 1, 40, 0), ("a", 3, 30, 5)]
    assert await own_usage(till.engine, asked(), "chat", after=second[0].last) == []


async def test_pages_of_other_groups_go_on_behind_a_key(till: Till) -> None:
    await some_calls(till)
    assert [row.key for row in await own_usage(till.engine, asked(), "model", after="large")] == ["small"]
    assert [row.key for row in await own_usage(till.engine, asked(), "task", after="")] == ["title_generation"]
    yesterday = f"{NOON - timedelta(days=1):%Y-%m-%d}"
    assert [row.calls for row in await own_usage(till.engine, asked(), "day", after=yesterday)] == [4]
    assert await own_usage(till.engine, asked(), "day", after="9999-01-01") == []


async def test_nobody_elses_call_is_in_a_sum(till: Till) -> None:
    await some_calls(till)
    assert shown(await own_usage(till.engine, asked(users=(BOB,), chat_id="a"), None)) == [(None, 1, 999, 0)]
    assert shown(await own_usage(till.engine, asked(users=(uuid4(),)), None)) == [(None, 0, 0, 0)]
    assert await own_usage(till.engine, asked(users=()), "chat") == []


async def test_a_call_counts_once_by_its_last_word(till: Till) -> None:
    wallet = await till.wallet(100)
    silent = till.replica("silent", ttl_s=-1)
    ask = till.ask(wallet, 60)
    mine = replace(ask.facts, user_id=ADA)
    ask = HoldAsk(ask.request_id, wallet, 60, 60, ask.price_version, ask.factor_ppm, mine)
    await silent.open_holds([ask])
    await silent.beat([till.beat(ask, 20)])
    await till.bank.reap()
    until = datetime.now(UTC) + timedelta(hours=1)
    wanted = asked(until=until, since=until - timedelta(days=2))
    assert [row.amount for row in await own_usage(till.engine, wanted, None)] == [20]
    await till.bank.close([till.event(ask, 50)])
    assert [(row.calls, row.amount) for row in await own_usage(till.engine, wanted, None)] == [(1, 50)]
    assert UUID(int=0) < (await own_usage(till.engine, wanted, None))[0].last
