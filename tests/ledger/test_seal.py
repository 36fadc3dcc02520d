"""A month is sealed when nothing of it can change any more and the ledger verifies; then the database keeps it so."""

from __future__ import annotations

import asyncpg
import pytest

from ledger import months
from ledger.audit import Actor
from ledger.seal import MonthRefused, Seal, check_seal, digest_of, seal, session, unseal
from ledger.table_locks import TablesBusy
from tests.ledger.business import tamper
from tests.ledger.old_months import Old, ago, business_in, clock_in
from tests.ledger.till import Till

_ANN = Actor("ann", "owner")


@pytest.fixture
async def old(till: Till) -> Old:
    return await business_in(till, ago(5))


async def _seal(till: Till, old: Old) -> Seal:
    return await seal(till.engine, old.month, _ANN)


async def test_a_seal_says_what_the_month_has_who_sealed_it_and_when(till: Till, old: Old) -> None:
    assert await till.broken() == []
    done = await _seal(till, old)
    [row] = await till.sql("SELECT *, sealed_at <= now() AS past FROM month_seals")
    assert (row["month"], row["state"], row["hash"], row["actor"], row["past"]) == (
        old.month, "sealed", done.hash, "ann", True,
    )  # fmt: skip
    assert done.rows == {
        parent: await till.value(f"SELECT count(*) FROM {months.table(parent, old.month)}") for parent in months.PARENTS
    }
    assert min(done.rows.values()) > 3
    [told] = await till.sql("SELECT actor, target_id, after ->> 'hash' AS hash FROM audit WHERE action = 'month.seal'")
    assert tuple(told) == ("ann", months.name(old.month), done.hash.hex())
    assert await till.broken() == []


async def test_its_sums_by_account_and_wallet_are_those_of_the_postings(till: Till, old: Old) -> None:
    await _seal(till, old)
    carried = await till.sql(
        "SELECT account, wallet_id, grant_id, currency, amount, postings FROM month_postings ORDER BY 1, 2, 3, 4"
    )
    posted = await till.sql(
        "SELECT account, wallet_id, grant_id, currency, sum(amount), count(*) FROM postings "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    assert [tuple(row) for row in carried] == [tuple(row) for row in posted]
    assert {"cash:test", "rev:usage", f"wallet:{old.wallet}:paid"} <= {row["account"] for row in carried}
    assert [tuple(row) for row in await till.sql("SELECT budget_id, charged FROM month_budgets")] == [
        (old.budget.id, 30)
    ]


@pytest.mark.parametrize("table", ["holds", "charges", "journal_entries", "postings"])
@pytest.mark.parametrize("act", ["INSERT INTO {0} SELECT * FROM {0}", "UPDATE {0} SET id = id", "DELETE FROM {0}"])
async def test_nobody_changes_a_sealed_month(till: Till, old: Old, table: str, act: str) -> None:
    await _seal(till, old)
    key = months.PARENTS[table][0]
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=r"sealed|append-only"):
        await till.sql(act.format(table).replace("SET id = id", f"SET {key} = {key}"))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=r"sealed|append-only"):
        await till.sql(f"TRUNCATE {months.table(table, old.month)}")


async def test_calls_of_other_months_go_on_beside_it(till: Till, old: Old) -> None:
    await _seal(till, old)
    await till.charge(old.wallet, 40)
    await till.bank.refund(old.call.request_id, 5, reason="", source="later")
    assert await till.broken() == []


async def test_the_newest_months_are_never_sealed(till: Till) -> None:
    for count in (0, 1):
        old = await business_in(till, ago(count))
        with pytest.raises(MonthRefused, match=f"too young.*is {months.name(ago(2))}"):
            await _seal(till, old)


async def test_a_month_with_a_call_that_still_holds_money_is_refused(till: Till, old: Old) -> None:
    with clock_in(old.month):
        await till.hold(old.wallet, 10)
    with pytest.raises(MonthRefused, match=r"1 calls of .* still hold money, until 20"):
        await _seal(till, old)


async def test_a_month_whose_charges_are_not_counted_yet_is_refused(till: Till, old: Old) -> None:
    with clock_in(old.month):
        await till.charge(old.wallet, 10)
    with pytest.raises(MonthRefused, match="wait for the statistics"):
        await _seal(till, old)


async def test_a_ledger_that_does_not_verify_is_refused_with_what_is_broken(till: Till, old: Old) -> None:
    await till.sql("UPDATE wallets SET spendable = spendable + 1 WHERE id = $1", old.wallet)
    with pytest.raises(MonthRefused, match=f"does not verify:\nI2 .*{old.wallet}"):
        await _seal(till, old)
    assert await till.value("SELECT count(*) FROM month_seals") == 0


async def test_a_month_is_sealed_once_and_only_where_it_is(till: Till, old: Old) -> None:
    await _seal(till, old)
    with pytest.raises(MonthRefused, match="is sealed already"):
        await _seal(till, old)
    with pytest.raises(MonthRefused, match="has no tables here"):
        await seal(till.engine, ago(40), _ANN)


async def test_a_writer_is_not_waited_for_long(till: Till, old: Old) -> None:
    async with session(till.engine) as other, other.transaction():
        await other.execute(f"LOCK TABLE holds_{old.month:%Y%m} IN ROW EXCLUSIVE MODE")
        with pytest.raises(TablesBusy):
            await _seal(till, old)


async def test_an_unsealed_month_may_be_corrected_and_sealed_again(till: Till, old: Old) -> None:
    first = await _seal(till, old)
    async with session(till.engine) as connection:
        await unseal(connection, old.month, _ANN)
        with clock_in(old.month):
            await till.bank.credit(old.wallet, 5, "promo", source="late", funding="exp:promo")
        again = await _seal(till, old)
        assert again.rows["postings"] == first.rows["postings"] + 2 and again.hash != first.hash
        assert await check_seal(connection, old.month) == again
        with pytest.raises(MonthRefused, match="is not sealed"):
            await unseal(connection, ago(6), _ANN)
    assert await till.broken() == []


async def test_the_hash_is_of_the_rows_and_of_nothing_else(till: Till, old: Old) -> None:
    async with session(till.engine) as connection:
        facts, digest = await digest_of(connection, old.month)
        await connection.execute("SET timezone = 'Asia/Tehran'")
        await connection.execute(f"VACUUM FULL charges_{old.month:%Y%m}")
        await connection.execute("ALTER TABLE charges ADD COLUMN later integer")
        columns = {parent: each.columns for parent, each in facts.items()}
        await connection.execute("SET timezone = 'UTC'")
        assert await digest_of(connection, old.month, columns) == (facts, digest)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE charges SET amount = amount + 1 WHERE amount = 30", "not those that were sealed$"),
        ("DELETE FROM postings WHERE amount = 20", "rows of postings .* then, .* now"),
    ],
)
async def test_rows_that_were_changed_are_found_by_the_seal(till: Till, old: Old, damage: str, said: str) -> None:
    await _seal(till, old)
    for table in months.tables(old.month):
        await till.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    await tamper(till, damage)
    async with session(till.engine) as connection:
        with pytest.raises(MonthRefused, match=said):
            await check_seal(connection, old.month)
