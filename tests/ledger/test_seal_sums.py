"""What a seal carries: sums beside it, and the hash over them."""

from __future__ import annotations

from hashlib import sha256

from ledger import months
from ledger.audit import SYSTEM
from ledger.seal import seal, session
from ledger.seal_sums import ORDERED, copied, sums_hash
from tests.ledger.old_months import ago, business_in
from tests.ledger.till import Till


async def test_rows_are_hashed_as_a_stream_and_counted(till: Till) -> None:
    async with session(till.engine) as connection:
        digest, rows = await copied(connection, "SELECT n, NULL, 'a' FROM generate_series(1, 100000) AS n")
    assert rows == 100_000
    assert digest == sha256(b"".join(b"%d\t\\N\ta\n" % n for n in range(1, 100_001))).digest()


async def test_the_hash_is_over_every_sum_and_over_those_of_the_statistics(till: Till) -> None:
    old = await business_in(till, ago(5))
    await seal(till.engine, old.month, SYSTEM)
    async with session(till.engine) as connection:
        sealed = await till.value("SELECT sums_hash FROM month_seals")
        assert await sums_hash(connection, old.month) == sealed
        for damage in (
            "UPDATE month_postings SET amount = amount + 1 WHERE account = 'rev:usage'",
            "UPDATE month_budgets SET charged = charged + 1",
            "UPDATE month_seals SET charged = '{}'",
        ):
            async with connection.transaction():
                await connection.execute(damage)
                assert await sums_hash(connection, old.month) != sealed
                sealed = await sums_hash(connection, old.month)


async def test_orders_are_those_that_refer_to_the_months_rows(till: Till) -> None:
    old = await business_in(till, ago(5))
    await till.bank.refund(old.call.request_id, 10, reason="", source="later")
    async with session(till.engine) as connection:
        row = await connection.fetchrow(ORDERED, *months.bounds(old.month))
        none = await connection.fetchrow(ORDERED, *months.bounds(ago(4)))
    # A refund that is made later is booked later, and refers to a call of the month.
    assert (row["credits"], row["refunds_booked"], row["refunded"], row["outside"]) == (1, 40, 50, 1)
    assert set(none.values()) == {0}
