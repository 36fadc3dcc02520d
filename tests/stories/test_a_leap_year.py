"""Some years of money in four zones, over 29 February, the 31st and the nights on which clocks change: grants,
charges, refunds, tier changes, groups, expiries and period borders in any order, and the ledger verifies.

The bank and the accounts are the real ones; what is moved is the database's clock. The test's own ``clock_timestamp``
and ``now`` stand before the built-in ones on the search path. Each step happens in a minute of its own, within which
the clock runs as ever: no period has its border inside a minute.
"""

from __future__ import annotations

import random
from calendar import monthrange
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.edits_sql import TierOrder
from accounts.standing import Standing, stand
from accounts.store_sql import Accounts, Conflict
from config.catalog import Catalog
from ledger.hold import CallFacts
from ledger.ids import uuid7
from ledger.journal import TOKENS
from ledger.period import Plan, bounds
from ledger.price import BY_TOKENS, PPM
from ledger.reading import reader
from ledger.store import (
    BankBusy,
    CallRunning,
    CreditKind,
    CreditOrder,
    HoldAsk,
    HoldStatus,
    NotEnough,
    RefundTooLarge,
    WalletBusy,
)
from ledger.store_sql import make_engine
from ledger.verify import drained, verify
from ledger.wallet import token_wallet_id
from policies.tier import Allowance, Tier
from tests.ledger.till import Till

ZONES = ("Pacific/Kiritimati", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe")
MINUTE = timedelta(minutes=1)
BEGIN = datetime(2027, 12, 28, 9, 30, tzinfo=UTC)
STEPS, CHECK_EVERY = 400, 25
LEAP_DAY = date(2028, 2, 29)
LEAP_MAX = timedelta(days=62)
USERS = 5
# What a person may be told instead of a result; nothing of it is booked.
NO = (NotEnough, RefundTooLarge, CallRunning, WalletBusy, BankBusy, LookupError, Conflict)
KINDS: tuple[CreditKind, ...] = ("payment", "grant", "adjustment", "refund", "deduct")

_CLOCK = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock (minute timestamptz NOT NULL, set_at timestamptz NOT NULL);
INSERT INTO moved.clock VALUES (date_trunc('minute', pg_catalog.now()), pg_catalog.clock_timestamp());
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
    'SELECT minute + least(pg_catalog.clock_timestamp() - set_at, interval ''59.999999 seconds'') FROM moved.clock';
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT moved.clock_timestamp()';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = moved, public, pg_catalog', current_database());
END $$
"""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The test's database with a clock that can be set."""
    first = make_engine(database_url, size=1)
    async with reader(first) as driver:
        await driver.execute(_CLOCK)
    await first.dispose()
    engine = make_engine(database_url, size=4)
    yield engine
    await engine.dispose()


def tiers_in(zone: str) -> dict[str, Tier]:
    """Every way in which a period can begin."""
    ways = {
        "free": Allowance(300, zone=zone),
        "daily": Allowance(80, every="day", zone=zone),
        "sundays": Allowance(150, every="week", zone=zone, anchor=7),
        "last-days": Allowance(500, zone=zone, anchor=31),
        "born": Allowance(400, zone=zone, anniversary=True),
        "yearly": Allowance(2000, every="year", zone=zone),
        "tokens": Allowance(250, "tokens", zone=zone, anchor=30),
        "bare": None,
    }
    return {name: Tier(name, allowance=allowance) for name, allowance in ways.items()}


class Purse(NamedTuple):
    """A wallet a call may be paid from, and what its periods give it."""

    wallet_id: UUID
    plan: Plan | None
    in_tokens: bool


class Town:
    """Some people with wallets, two groups, and the calls that run."""

    def __init__(self, till: Till, accounts: Accounts, zone: str, chance: random.Random) -> None:
        self.till = till
        # A call goes on for a while without a sign of life, over a border, say.
        self.bank = till.replica("town", ttl_s=3 * 3600, horizon_s=6 * 3600)
        self.accounts = accounts
        self.zone = zone
        self.chance = chance
        self.now = BEGIN
        self.leap = self.at(LEAP_DAY)
        self.tiers = tiers_in(zone)
        self.catalog = Catalog(tiers=self.tiers)
        self.users: list[UUID] = []
        self.groups: list[UUID] = []
        self.running: list[HoldAsk] = []
        self.ended: list[HoldAsk] = []

    async def settle_in(self) -> None:
        await self.be_it(BEGIN)
        shared = await self.accounts.create_group(
            name="shared", shared=True, allowance=self.tiers["last-days"].allowance
        )
        giving = await self.accounts.create_group(
            name="giving", tier="sundays", allowance=self.tiers["daily"].allowance
        )
        self.groups = [shared.group.id, giving.group.id]
        self.catalog = Catalog(tiers=self.tiers, groups={each.group.id: each.group for each in (shared, giving)})
        for number in range(USERS):
            self.users.append((await self.accounts.create_user(name=str(number))).id)

    # -- time

    async def be_it(self, minute: datetime) -> None:
        """Set the clock; it never goes back, and does not pass the beginning of 29 February by."""
        if self.now < self.leap:
            minute = min(minute, self.leap)
        self.now = max(self.now, minute)
        await self.till.sql("UPDATE moved.clock SET minute = $1, set_at = pg_catalog.clock_timestamp()", self.now)

    @property
    def today(self) -> date:
        """The day, as people here count it."""
        return self.now.astimezone(ZoneInfo(self.zone)).date()

    async def let_hours_pass(self) -> None:
        await self.be_it(self.now + timedelta(minutes=self.chance.randint(1, 3 * 1440)))

    async def go_to_a_border(self) -> None:
        """The minute in which somebody's period begins, or the last one before it."""
        purse = self.chance.choice(await self.purses(self.chance.choice(self.users)))
        if purse.plan is not None:
            end = bounds(purse.plan, self.now)[1]
            if end - self.now < LEAP_MAX:
                await self.be_it(end - self.chance.choice((timedelta(0), MINUTE)))

    async def go_to_an_odd_day(self) -> None:
        """The next 29 February, 31st or change of clocks of this zone, at a local midnight or in the night."""
        day = self.today
        for _ in range(70):
            day += timedelta(days=1)
            if day.day == 31 or (day.month, day.day) == (2, 29) or self.changes_clocks(day):
                break
        await self.be_it(self.at(day, self.chance.choice((0, 1, 2, 3, 23))))

    def at(self, day: date, hour: int = 0) -> datetime:
        """An hour of this day, as people here count it."""
        return datetime.combine(day, time(hour), ZoneInfo(self.zone)).astimezone(UTC)

    def changes_clocks(self, day: date) -> bool:
        zone = ZoneInfo(self.zone)
        return len({datetime.combine(day, time(hour), zone).utcoffset() for hour in (0, 23)}) > 1

    # -- where people stand, and what their periods give

    async def standing(self, user_id: UUID) -> Standing:
        user = await self.accounts.user(user_id)
        assert user is not None
        return stand(user, self.catalog, "free", self.now)

    async def purses(self, user_id: UUID) -> list[Purse]:
        """As a call tries them: tokens, then money."""
        standing = await self.standing(user_id)
        money = Purse(standing.wallet_id, standing.money_plan, False)
        if standing.token_plan is None:
            return [money]
        tokens = token_wallet_id(standing.wallet_id)
        await self.bank.open_wallet(tokens, TOKENS)
        return [Purse(tokens, standing.token_plan, True), money]

    async def look(self) -> None:
        """Whoever looks finds the allowance of the period that runs, granted once, from border to border."""
        for purse in await self.purses(self.chance.choice(self.users)):
            before = {row["source"] for row in await self.till.sql(_PLAN_GRANTS, purse.wallet_id)}
            balance = await self.bank.balance(purse.wallet_id, purse.plan)
            rows = await self.till.sql(_PLAN_GRANTS, purse.wallet_id)
            alive = [row for row in rows if row["remaining"]]
            # What still backs a call of an earlier period stays until that call is closed.
            assert len(alive) <= 1 or balance.held > 0
            if purse.plan is None:
                assert not alive or balance.held > 0
                continue
            start, end = bounds(purse.plan, self.now)
            assert begins(purse.plan, start) and begins(purse.plan, end)
            source = f"plan:{purse.plan.name}:{start.isoformat()}"
            [mine] = [row for row in rows if row["source"] == source]
            assert (mine["amount"], mine["expires_at"]) == (purse.plan.amount, end)
            assert start <= mine["starts_at"] < self.now + MINUTE <= end
            if source not in before:
                assert mine["remaining"] == purse.plan.amount and mine["starts_at"] >= self.now

    # -- money

    async def call(self) -> None:
        user_id, wanted = self.chance.choice(self.users), self.chance.randint(1, 60)
        facts = CallFacts(user_id=user_id, tier="t", model="m", route="chat.completions")
        for purse in await self.purses(user_id):
            version = BY_TOKENS if purse.in_tokens else self.till.price_version
            ask = HoldAsk(uuid7(), purse.wallet_id, wanted, min(wanted, 5), version, PPM, facts, purse.plan)
            [reply] = await self.bank.open_holds([ask])
            if reply.status is HoldStatus.OK:
                self.running.append(ask)
            if reply.status is not HoldStatus.POOR:
                return

    async def end(self) -> None:
        """A call may end in another period than the one it was admitted in, and may have used more than it held."""
        if self.running:
            ask = self.running.pop(self.chance.randrange(len(self.running)))
            left = await self.bank.close([self.till.event(ask, self.chance.randint(0, 80))])
            assert not left.busy
            self.ended.append(ask)

    async def refund(self) -> None:
        if self.ended:
            ask, amount = self.chance.choice(self.ended), self.chance.choice((None, 3, 10, 40))
            await self.bank.refund(ask.request_id, amount, reason="", source=f"r{self.chance.randint(0, 4)}")

    async def credit(self) -> None:
        user = await self.accounts.user(self.chance.choice(self.users))
        assert user is not None
        kind, amount = self.chance.choice(KINDS), self.chance.randint(1, 90)
        sign = -1 if kind == "adjustment" and self.chance.random() < 0.5 else 1
        ending = kind != "deduct" and sign > 0 and self.chance.random() < 0.5
        expires_at = self.now + timedelta(minutes=self.chance.randint(1, 40 * 1440)) if ending else None
        source = f"c{self.chance.randint(0, 400)}"
        await self.bank.adjust(CreditOrder(user.wallet_id, kind, sign * amount, "", source, expires_at))

    # -- tiers and groups

    async def change_tier(self) -> None:
        """At once, when the running period ends, or as the groups decide."""
        user_id, tier = self.chance.choice(self.users), self.chance.choice(list(self.tiers))
        match self.chance.randint(0, 3):
            case 0:
                await self.accounts.edit_user(user_id, {}, tier=TierOrder(None))
            case 1:
                at = (await self.standing(user_id)).period_end(self.now)
                await self.accounts.set_tier(user_id, tier, at=at)
            case _:
                await self.accounts.set_tier(user_id, tier)

    async def change_groups(self) -> None:
        user_id, group_id = self.chance.choice(self.users), self.chance.choice(self.groups)
        if not await self.accounts.remove_member(group_id, user_id):
            await self.accounts.add_member(group_id, user_id)

    async def settle_tiers(self) -> None:
        await self.accounts.settle_due_tiers()

    # -- the run

    async def reap(self) -> None:
        """What fell silent is charged by its last word, and what it still locks is freed past its horizon."""
        for sweep in (self.bank.reap, self.bank.release):
            while await sweep():
                pass

    async def something(self) -> None:
        steps: list[Callable[[], Awaitable[None]]] = [
            *(self.call, self.call, self.call, self.call, self.end, self.end, self.end, self.end),
            *(self.refund, self.refund, self.credit, self.credit, self.credit, self.look, self.look, self.look),
            *(self.change_tier, self.change_tier, self.change_tier, self.change_groups, self.settle_tiers, self.reap),
            *(self.let_hours_pass, self.go_to_a_border, self.go_to_a_border, self.go_to_an_odd_day),
        ]
        await self.be_it(self.now + MINUTE)
        with suppress(*NO):
            await self.chance.choice(steps)()

    async def close(self) -> None:
        """Every call ends, and everybody looks once more."""
        while self.running:
            await self.end()
        await self.be_it(self.now + timedelta(days=1))
        await self.reap()
        for _ in range(2 * USERS):
            await self.look()


def begins(plan: Plan, instant: datetime) -> bool:
    """Whether a period of this plan may begin then: at a midnight of its zone, on its day, the last one there is. (No
    clock of these zones is changed at midnight.)"""
    local = instant.astimezone(ZoneInfo(plan.zone))
    if local.time() != time.min:
        return False
    match plan.every:
        case "day":
            return True
        case "week":
            return local.isoweekday() == (plan.anchor or 1)
        case "month":
            return local.day == min(plan.anchor or 1, monthrange(local.year, local.month)[1])
        case "year":
            return (local.month, local.day) == (1, 1)


async def broken(engine: AsyncEngine) -> list[str]:
    """What the invariants that do not hold say of themselves."""
    return [finding.line() for finding in await verify(engine) if not finding.holds]


_PLAN_GRANTS = """
    SELECT source, amount, remaining, starts_at, expires_at FROM grants WHERE wallet_id = $1 AND kind = 'plan'
"""


@pytest.mark.parametrize("zone", ZONES)
async def test_whatever_the_calendar_does_the_ledger_verifies(engine: AsyncEngine, zone: str) -> None:
    till = await Till.open(engine)
    accounts = Accounts(engine, pepper=b"p" * 32, default_tier="free")
    town = Town(till, accounts, zone, random.Random(zone))
    await town.settle_in()
    for step in range(STEPS):
        await town.something()
        if step % CHECK_EVERY == 0:
            await town.reap()
            assert await broken(engine) == []
    await town.close()
    assert town.today > date(2029, 3, 1)
    assert await broken(engine) == []
    assert (await drained(engine)).holds
