"""A sealed month leaves the ledger, which goes on as if it were there; and comes back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ledger import months
from ledger.audit import SYSTEM
from ledger.detach import attach, detach
from ledger.seal import MonthRefused, seal, session
from ledger.statement import entries
from ledger.table_locks import TablesBusy
from ledger.verify import verify
from tests.ledger.old_months import Old, ago, business_in, clock_in
from tests.ledger.till import Till


@pytest.fixture
async def connection(till: Till) -> AsyncIterator[Any]:
    async with session(till.engine) as connection:
        yield connection


@pytest.fixture
async def old(till: Till) -> Old:
    return await business_in(till, ago(9))


async def _gone(till: Till, connection: Any, old: Old) -> None:
    await seal(till.engine, old.month, SYSTEM)
    await detach(connection, old.month, SYSTEM)


async def _broken(till: Till) -> list[str]:
    return [finding.line() for finding in await verify(till.engine) if not finding.holds]


async def _statistics(till: Till) -> list[Any]:
    return await till.sql("SELECT * FROM usage_by_day ORDER BY 1, 2, 3, 4, 5")


async def test_what_it_had_still_counts_in_balances_invariants_and_statistics(
    till: Till, connection: Any, old: Old
) -> None:
    balance, statistics = await till.balance(old.wallet), await _statistics(till)
    await _gone(till, connection, old)
    assert await till.value("SELECT count(*) FROM charges") == await till.value("SELECT count(*) FROM postings") == 0
    assert await till.balance(old.wallet) == balance and balance.spendable == 925
    assert await _statistics(till) == statistics
    assert await _broken(till) == []


async def test_business_goes_on_with_money_budgets_and_tokens_of_then(till: Till, connection: Any, old: Old) -> None:
    await _gone(till, connection, old)
    ask = await till.hold(old.wallet, 100, budgets=(old.budget,))
    await till.bank.close([till.event(ask, 80)])
    await till.bank.refund(ask.request_id, 10, reason="", source="r")
    assert (await till.bank.budget(old.budget.id)).spent == 110
    assert (await till.balance(old.wallet)).spendable == 925 - 80 + 10
    assert [line.amount for line in await entries(till.engine, old.wallet, before=None, limit=10)] == [10, -80]
    assert await _broken(till) == []


async def test_it_comes_back_as_it_was(till: Till, connection: Any, old: Old) -> None:
    tables = [f"SELECT * FROM {parent} ORDER BY {', '.join(key)}" for parent, key in months.PARENTS.items()]
    before = [await till.sql(query) for query in tables]
    await _gone(till, connection, old)
    done = await attach(connection, old.month, SYSTEM)
    assert [await till.sql(query) for query in tables] == before
    assert done.rows["charges"] == len(before[1])
    assert await till.value("SELECT state FROM month_seals") == "sealed"
    assert await _broken(till) == []
    await till.bank.refund(old.call.request_id, 30, reason="", source="again")
    await detach(connection, old.month, SYSTEM)
    assert await _broken(till) == []
    acts = [
        row["action"] for row in await till.sql("SELECT action FROM audit WHERE target_type = 'month' ORDER BY seq")
    ]
    assert acts == ["month.seal", "month.detach", "month.attach", "month.detach"]


async def test_a_detached_month_is_closed_to_changes_and_told_nothing(till: Till, connection: Any, old: Old) -> None:
    await _gone(till, connection, old)
    charges = months.table("charges", old.month)
    for act in (f"UPDATE {charges} SET amount = 0", f"DELETE FROM {charges}", f"TRUNCATE {charges}"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=r"is sealed|append-only"):
            await till.sql(act)
    unposted = await till.bank.close([till.event(old.call, 50)])
    assert [event.request_id for event in unposted.unknown] == [old.call.request_id]
    with pytest.raises(LookupError):
        await till.bank.refund(old.call.request_id, 1, reason="", source="r")
    assert await _broken(till) == []


async def test_rows_changed_while_it_was_away_keep_it_away(till: Till, connection: Any, old: Old) -> None:
    await _gone(till, connection, old)
    charges = months.table("charges", old.month)
    await till.sql(f"ALTER TABLE {charges} DISABLE TRIGGER ALL")
    await till.sql(f"UPDATE {charges} SET amount = amount + 1")
    with pytest.raises(MonthRefused, match="not those that were sealed"):
        await attach(connection, old.month, SYSTEM)
    assert await till.value("SELECT state FROM month_seals") == "detached"


async def test_a_table_that_is_not_there_is_named(till: Till, connection: Any, old: Old) -> None:
    await _gone(till, connection, old)
    await till.sql(f"DROP TABLE {months.table('postings', old.month)}")
    assert await _broken(till) == []
    with pytest.raises(MonthRefused, match=r"postings_.* is not in this database: restore it"):
        await attach(connection, old.month, SYSTEM)


async def test_a_column_that_came_since_is_asked_for_and_the_hash_is_over_those_of_then(
    till: Till, connection: Any, old: Old
) -> None:
    await _gone(till, connection, old)
    await till.sql("ALTER TABLE charges ADD COLUMN later text NOT NULL DEFAULT 'x'")
    with pytest.raises(MonthRefused, match=r"has not yet: ALTER TABLE charges_\d+ ADD COLUMN later") as refused:
        await attach(connection, old.month, SYSTEM)
    await till.sql(str(refused.value).partition(": ")[2])
    await attach(connection, old.month, SYSTEM)
    assert await _broken(till) == []


async def test_months_leave_oldest_first_and_come_back_newest_first(till: Till, connection: Any, old: Old) -> None:
    newer = await business_in(till, ago(8))
    for each in (old, newer):
        await seal(till.engine, each.month, SYSTEM)
    with pytest.raises(MonthRefused, match=f"oldest first, and the oldest is {months.name(old.month)}"):
        await detach(connection, newer.month, SYSTEM)
    for each in (old, newer):
        await detach(connection, each.month, SYSTEM)
        assert await _broken(till) == []
    with pytest.raises(MonthRefused, match=f"newest first, and the newest is {months.name(newer.month)}"):
        await attach(connection, old.month, SYSTEM)
    for each in (newer, old):
        await attach(connection, each.month, SYSTEM)
        assert await _broken(till) == []


async def test_a_call_over_the_border_is_booked_in_the_next_month(till: Till, connection: Any, old: Old) -> None:
    with clock_in(old.month):
        ask = await till.hold(old.wallet, 60)
    await till.sql("SELECT ensure_month($1)", months.begins(ago(8)))
    with clock_in(ago(8)):
        await till.bank.close([till.event(ask, 55)])
    newer = await business_in(till, ago(8))
    for each in (old, newer):
        await seal(till.engine, each.month, SYSTEM)
        await detach(connection, each.month, SYSTEM)
        assert await _broken(till) == []


async def test_what_is_not_sealed_too_young_or_gone_does_not_leave(till: Till, connection: Any, old: Old) -> None:
    with pytest.raises(MonthRefused, match="is not sealed: seal it first"):
        await detach(connection, old.month, SYSTEM)
    await seal(till.engine, old.month, SYSTEM)
    with pytest.raises(MonthRefused, match="its calls may be refunded for 400: afterwards they cannot"):
        await detach(connection, old.month, SYSTEM, refundable_days=400)
    await detach(connection, old.month, SYSTEM)
    with pytest.raises(MonthRefused, match="is detached already"):
        await detach(connection, old.month, SYSTEM)
    with pytest.raises(MonthRefused, match="is not detached"):
        await attach(connection, ago(8), SYSTEM)


async def test_the_newest_months_stay(till: Till, connection: Any) -> None:
    old = await business_in(till, ago(2))
    await seal(till.engine, old.month, SYSTEM)
    with pytest.raises(MonthRefused, match=f"too young: .* is {months.name(ago(3))}"):
        await detach(connection, old.month, SYSTEM, refundable_days=0)


async def test_a_long_reader_is_not_waited_for(till: Till, connection: Any, old: Old) -> None:
    await seal(till.engine, old.month, SYSTEM)
    async with session(till.engine) as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM charges")
        with pytest.raises(TablesBusy):
            await detach(connection, old.month, SYSTEM)
    assert await till.value("SELECT state FROM month_seals") == "sealed"
    await detach(connection, old.month, SYSTEM)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I2", "DELETE FROM month_postings WHERE wallet_id = (SELECT min(wallet_id::text)::uuid FROM month_postings)"),
        ("I8", "UPDATE month_postings SET amount = amount + 1 WHERE account = 'cash:test'"),
        ("I11", "UPDATE month_budgets SET charged = charged + 1"),
        ("I14", "UPDATE month_seals SET charged = jsonb_set(charged, '{USD,calls}', '9')"),
        ("I15", "UPDATE month_postings SET postings = postings + 1"),
        ("I15", "UPDATE month_seals SET hash = sha256('x')"),
        ("I15", "UPDATE refunds SET amount = amount - 1"),
        ("I15", "DELETE FROM credits"),
        ("I15", "DELETE FROM outside_charges"),
    ],
)
async def test_what_a_seal_carries_is_what_the_ledger_reckons_with(
    till: Till, connection: Any, old: Old, name: str, damage: str
) -> None:
    await _gone(till, connection, old)
    for table in ("credits", "refunds", "outside_charges"):
        await till.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    await till.sql(damage)
    assert name in await till.broken()
