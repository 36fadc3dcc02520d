"""The house at a glance: what people really paid, what is owed to them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from ledger.figures import figures, held
from ledger.journal import TOKENS
from ledger.roller import Roller
from ledger.wallet import token_wallet_id
from tests.ledger.till import Till


async def test_revenue_is_what_was_paid_without_the_houses_own_what_nobody_covered_and_what_was_given_back(
    till: Till,
) -> None:
    plain, dear = await till.hold(await till.wallet(1000), 100), await till.hold(await till.wallet(50), 50)
    house = till.ask(await till.wallet(), 0, house=True)
    await till.bank.open_holds([house])
    await till.bank.close([till.event(plain, 100), till.event(dear, 80), till.event(house, 7)])
    await till.bank.refund(plain.request_id, 40, reason="kind", source="1")
    await till.bank.refund(dear.request_id, 35, reason="30 of it were never paid", source="1")
    await till.bank.refund(house.request_id, 7, reason="nobody paid it", source="1")
    await Roller(till.engine).roll()
    for told in await figures(till.engine, datetime.now(UTC)):
        assert (told.usage.calls, told.usage.amount, told.usage.overrun, told.usage.house_amount) == (3, 187, 30, 7)
        assert told.refunded == 40 + 5
        assert told.revenue == 100 + 50 - 45
        booked = -await till.posted("rev:usage") - await till.posted("exp:bad_debt") - await till.posted("exp:goodwill")
        assert told.revenue == booked


async def test_periods_begin_on_the_day_the_first_of_the_month_and_the_first_of_the_year(till: Till) -> None:
    found = await figures(till.engine, datetime(2026, 11, 21, 23, tzinfo=UTC))
    assert [str(told.since) for told in found] == ["2026-11-21", "2026-11-01", "2026-01-01"]
    assert all(told.revenue == told.usage.calls == told.refusals == 0 for told in found)


async def test_refusals_of_the_period_are_told(till: Till) -> None:
    for at, many in (("2026-11-21 05:00+00", 3), ("2026-11-02 00:00+00", 4), ("2026-01-01 00:00+00", 5)):
        await till.sql(f"INSERT INTO refusals_by_hour VALUES ('{at}', 'c', 't', {many})")
    found = await figures(till.engine, datetime(2026, 11, 21, 23, tzinfo=UTC))
    assert [told.refusals for told in found] == [3, 7, 12]


async def test_tokens_of_allowances_are_no_money(till: Till) -> None:
    wallet = await till.wallet(100)
    tokens = token_wallet_id(wallet)
    await till.bank.open_wallet(tokens, TOKENS)
    await till.sql("UPDATE wallets SET due_at = 'infinity'")
    await till.bank.credit(tokens, 500, "promo", source="t", funding="exp:promo")
    ask = await till.hold(tokens, 60)
    await till.bank.close([msgspec.structs.replace(till.event(ask, 60), price_version=-1)])
    await Roller(till.engine).roll()
    [today, *_] = await figures(till.engine, datetime.now(UTC))
    assert (today.usage.calls, today.usage.output_tokens, today.usage.amount) == (1, 60, 0)
    assert (today.allowance_tokens, today.revenue) == (60, 0)
    assert await till.broken() == []


async def test_wallets_owe_what_they_hold_by_currency(till: Till) -> None:
    first, _ = await till.wallet(100), await till.wallet(20)
    await till.hold(first, 30)
    await till.bank.open_wallet(token_wallet_id(first), TOKENS)
    found = {each.currency: each for each in await held(till.engine)}
    assert (found["USD"].wallets, found["USD"].spendable, found["USD"].held) == (2, 120, 30)
    assert (found["TOK"].wallets, found["TOK"].spendable) == (1, 0)
