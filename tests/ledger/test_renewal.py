"""What a wallet is due: allowances come once for each period, and go with it, but for what backs a hold."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from ledger.period import Plan, bounds
from tests.ledger.till import Till, statuses


class TestAllowance:
    PLAN = Plan(1000, "month", "Pacific/Kiritimati")

    async def test_the_first_hold_of_a_new_wallet_books_its_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        assert statuses(await till.bank.open_holds([till.ask(wallet, 400, plan=self.PLAN)])) == ["ok"]
        balance = await till.bank.balance(wallet, self.PLAN)
        assert (balance.spendable, balance.by_kind, balance.plan_amount) == (1000, {"plan": 1000}, 1000)
        assert balance.period_ends_at == bounds(self.PLAN, datetime.now(UTC))[1]
        assert await till.broken() == []

    async def test_first_calls_on_many_replicas_at_once_book_one_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)

        async def first(number: int) -> str:
            ask = till.ask(wallet, 10, plan=self.PLAN)
            bank = till.replica(f"replica-{number}")
            while (reply := (await bank.open_holds([ask]))[0]).status == "busy":
                await asyncio.sleep(0.005)
            return reply.status.value

        assert await asyncio.gather(*(first(number) for number in range(64))) == ["ok"] * 64
        assert (await till.balance(wallet)).spendable == 1000
        assert await till.broken() == []

    async def test_a_batch_of_first_calls_books_one_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        replies = await till.bank.open_holds([till.ask(wallet, 10, plan=self.PLAN) for _ in range(64)])
        assert statuses(replies) == ["ok"] * 64
        assert (await till.balance(wallet)).spendable == 1000

    async def test_a_new_period_brings_a_new_allowance_and_takes_the_rest_of_the_old(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        await till.bank.balance(wallet, self.PLAN)
        await self._period_ends(till, wallet)
        balance = await till.bank.balance(wallet, self.PLAN)
        assert (balance.spendable, await till.posted("exp:promo")) == (1000, 1000)
        assert await till.broken() == []

    async def test_another_plan_brings_its_allowance_at_once_and_takes_what_is_left_of_the_old(
        self, till: Till
    ) -> None:
        wallet = await till.wallet(7, due=True)
        ask = till.ask(wallet, 30, plan=Plan(100, name="free"))
        await till.bank.open_holds([ask])
        for _ in range(2):
            await till.sql("UPDATE wallets SET due_at = '-infinity' WHERE id = $1", wallet)
            assert (await till.bank.balance(wallet, Plan(500, name="pro"))).spendable == 7 + 30 + 500
        await till.bank.close([till.event(ask, 20)])
        assert await till.broken() == []

    async def test_going_back_to_a_plan_of_this_period_brings_its_allowance_no_second_time(self, till: Till) -> None:
        wallet = await till.wallet(7, due=True)
        for name, amount, spendable in (("free", 100, 107), ("pro", 500, 507), ("free", 100, 7)):
            await till.sql("UPDATE wallets SET due_at = '-infinity' WHERE id = $1", wallet)
            assert (await till.bank.balance(wallet, Plan(amount, name=name))).spendable == spendable
        assert await till.broken() == []

    async def test_a_wallet_without_an_allowance_is_due_only_once(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        assert (await till.bank.balance(wallet, None)).spendable == 0
        assert not await till.value("SELECT due_at <= now() FROM wallets WHERE id = $1", wallet)

    async def test_what_backs_a_hold_stays_over_the_end_of_its_period(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        ask = till.ask(wallet, 400, plan=self.PLAN)
        await till.bank.open_holds([ask])
        await self._period_ends(till, wallet)
        during = await till.bank.balance(wallet, self.PLAN)
        assert (during.spendable, during.held) == (1400, 400)
        await till.bank.close([till.event(ask, 150)])
        after = await till.balance(wallet)
        assert (after.spendable, after.held) == (1000, 0)
        assert await till.broken() == []

    async def test_money_given_back_to_a_grant_that_has_ended_ends_too(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        bank = till.replica("gone", ttl_s=0)
        ask = till.ask(wallet, 400, plan=self.PLAN)
        await bank.open_holds([ask])
        await bank.beat([till.beat(ask, 300)])
        await bank.reap()
        await self._period_ends(till, wallet)
        await till.bank.balance(wallet, self.PLAN)
        await till.bank.close([till.event(ask, 100)])
        assert (await till.balance(wallet)).spendable == 1000
        assert await till.broken() == []

    async def _period_ends(self, till: Till, wallet: UUID) -> None:
        """The running period becomes last year's."""
        await till.sql(
            "UPDATE grants SET expires_at = now() - interval '1 year', source = 'plan:last' WHERE wallet_id = $1",
            wallet,
        )
        await till.sql("UPDATE wallets SET due_at = now() - interval '1 year' WHERE id = $1", wallet)
