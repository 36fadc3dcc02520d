"""The bank in Postgres: lock, read, decide purely, write. The only file that runs the bank's SQL.

Whoever books locks wallets first, then holds, both in the order of their ids, and nobody who books for several waits
for a wallet: one that somebody else has locked is left for the next time. READ COMMITTED is enough: each rule is one
row's CHECK or one unique key, and what is decided is decided under the lock. The instant that counts is the database's,
on every replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ledger import statements
from ledger.booking import Booking, provisional
from ledger.hold import CallFacts, Hold, PriorCharge, Rev, Settlement, State, expire, release, settle
from ledger.ids import uuid7
from ledger.journal import EXPENSE_PROMO, Posting
from ledger.period import Plan, bounds
from ledger.store import Balance, BankBusy, BankUnavailable, Beat, BeatReply, HoldAsk, HoldReply, HoldStatus, Unposted
from ledger.usage import Usage
from ledger.wallet import PRIORITY, Grant, GrantKind, Wallet

_FOREVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
# What has ended but still backs a hold is looked at again after this long.
_LOOK_AGAIN = timedelta(seconds=5)
_REAP_AT_ONCE = 200

_AWAY = (
    OSError,
    asyncio.TimeoutError,
    PoolTimeout,
    DBAPIError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
    # A password changed, a database renamed, a right withdrawn: an operator's to mend, and no fault of what was asked.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)


def make_engine(
    url: str,
    *,
    size: int = 8,
    command_timeout_s: float = 10.0,
    lock_timeout_ms: int = 3000,
    name: str = "farebox",
    ask_first: bool = False,
) -> AsyncEngine:
    """An engine whose every statement is bounded in time. ``url`` is ``postgresql+asyncpg://…``.

    ``ask_first``: a connection is tried before it is used, one trip more, so that a database that was away refuses
    nobody once it is back (the bank sees to that itself). Durability stays the server's: nothing here turns
    ``synchronous_commit`` off.
    """
    return create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=command_timeout_s,
        pool_pre_ping=ask_first,
        connect_args={
            "timeout": 5,
            "command_timeout": command_timeout_s,
            "server_settings": {
                "application_name": name,
                "timezone": "UTC",
                "lock_timeout": str(lock_timeout_ms),
                "idle_in_transaction_session_timeout": str(int(command_timeout_s * 1500)),
            },
        },
    )


@dataclass(frozen=True, slots=True)
class _Locked:
    """The wallets this transaction has locked, which of them are due, and the database's instant under the lock."""

    wallets: dict[UUID, Wallet]
    due: set[UUID]
    now: datetime


class PostgresBank:
    """The ``store.Bank`` on Postgres.

    ``owner`` names this process; ``ttl_s`` is how long a hold lives without a beat; ``horizon_s`` how long after its
    opening a hold's process could still spend (the longest stream and the ttl).
    """

    def __init__(self, engine: AsyncEngine, *, owner: str, ttl_s: float = 15.0, horizon_s: float = 615.0) -> None:
        self._engine = engine
        self._owner = owner
        self._ttl = timedelta(seconds=ttl_s)
        self._horizon = timedelta(seconds=horizon_s)

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        """See ``store.Bank``. A wallet that is due is brought up to date and asked again."""
        async with self._connection() as connection:
            rows = await self._ask(connection, asks)
            due = [ask for ask, row in zip(asks, rows, strict=True) if row["status"] == "due"]
            if due:
                again = iter(await self._ask_renewed(connection, due))
                rows = [next(again) if row["status"] == "due" else row for row in rows]
        return [_reply(row) for row in rows]

    async def beat(self, beats: Sequence[Beat]) -> list[BeatReply]:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            rows = await connection.fetch(
                statements.BEAT,
                self._owner,
                self._ttl,
                [beat.request_id for beat in beats],
                [beat.wallet_id for beat in beats],
                [beat.checkpoint for beat in beats],
                [msgspec.json.encode(beat.usage).decode() for beat in beats],
                [beat.target for beat in beats],
                [beat.price_version for beat in beats],
            )
        return [
            BeatReply(row["status"] != "lost", row["amount"], row["available"], row["status"] == "busy")
            for row in _in_order(rows)
        ]

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        """See ``store.Bank``."""
        events = list({event.request_id: event for event in events}.values())
        async with self._transaction() as connection:
            locked = await self._lock(connection, {event.wallet_id for event in events})
            ready = [event for event in events if event.wallet_id in locked.wallets]
            holds = await self._holds(connection, [event.request_id for event in ready])
            prior = await self._prior(connection, [hold.id for hold in holds.values() if hold.state is not State.OPEN])
            burnt = [leg for charges in prior.values() for charge in charges for leg in charge.postings]
            await self._grants(connection, locked.wallets, burnt)
            booking, unknown = Booking(), []
            for event in ready:
                hold = holds.get(event.request_id)
                if hold is None or hold.wallet_id != event.wallet_id:
                    unknown.append(event)
                else:
                    _settle(booking, locked.wallets[hold.wallet_id], hold, prior.get(hold.id, ()), event)
            await self._write(connection, booking, locked.now)
            left = [event for event in events if event.wallet_id not in locked.wallets]
            known = await self._known(connection, left)
        unknown += [event for event in left if event.wallet_id not in known]
        return Unposted(
            tuple(event for event in unknown if not event.void),
            tuple(event for event in left if event.wallet_id in known),
        )

    async def credit(
        self,
        wallet_id: UUID,
        amount: int,
        kind: GrantKind,
        *,
        source: str,
        funding: str,
        expires_at: datetime | None = None,
    ) -> bool:
        """See ``store.Bank``. Raises ValueError for an amount below 1 nano-USD, LookupError for an unknown wallet."""
        if amount < 1:
            raise ValueError("a grant brings at least one nano-USD")
        async with self._transaction() as connection:
            row = await connection.fetchrow(statements.WAIT_FOR_WALLET, wallet_id)
            if row is None:
                raise LookupError(f"no wallet {wallet_id}")
            if await connection.fetchval(statements.SOURCE_KNOWN, wallet_id, source):
                return False
            booking, wallet, now = Booking(), Wallet(row["id"], row["spendable"], row["held"]), row["now"]
            _fill(booking, wallet, amount, kind, source, funding, now, expires_at)
            # The past is due at once: the next hold books the first allowance and sets the true instant.
            booking.touch(wallet, now if expires_at else None)
            await self._write(connection, booking, now)
        return True

    async def balance(self, wallet_id: UUID, plan: Plan | None) -> Balance:
        """See ``store.Bank``. Raises LookupError for an unknown wallet."""
        async with self._connection() as connection:
            row = await connection.fetchrow(statements.BALANCE, wallet_id)
            if row is not None and row["due"]:
                await self._renew(connection, wallet_id, plan)
                row = await connection.fetchrow(statements.BALANCE, wallet_id)
        if row is None:
            raise LookupError(f"no wallet {wallet_id}")
        by_kind = msgspec.json.decode(row["by_kind"], type=dict[str, int])
        return Balance(row["spendable"], row["held"], by_kind, row["period_ends_at"], row["plan_amount"])

    async def reap(self) -> int:
        """See ``store.Bank``."""
        return await self._sweep(statements.SILENT, statements.STILL_SILENT, _expire_hold)

    async def release(self) -> int:
        """See ``store.Bank``."""
        return await self._sweep(statements.PAST_HORIZON, statements.STILL_PAST_HORIZON, _release_hold)

    async def sign_in(self) -> int:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            await connection.execute(statements.SIGN_IN, self._owner)
            return int(await connection.fetchval(statements.LIVE, self._ttl))

    async def sign_out(self) -> None:
        """This replica is gone: its share of local limits goes to the others at once."""
        async with self._connection() as connection:
            await connection.execute(statements.SIGN_OUT, self._owner)

    async def drift(self) -> int:
        """How far the wallets' balances and their grants are apart, in nano-USD; 0 unless something is broken."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.DRIFT))

    async def ping(self) -> None:
        """Return when the bank can answer and can write. Raises BankUnavailable."""
        async with self._connection() as connection:
            if await connection.fetchval(
                "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
            ):
                raise BankUnavailable("the bank is read-only")

    async def make_months(self, ahead: int = 2) -> int:
        """Make the partitions of this month and the next ``ahead``; how many were missing."""
        async with self._connection() as connection:
            return int(await connection.fetchval("SELECT ensure_partitions($1)", ahead))

    async def _ask(self, connection: Any, asks: Sequence[HoldAsk]) -> list[Any]:
        rows = await connection.fetch(
            statements.OPEN,
            self._owner,
            self._ttl,
            self._horizon,
            [ask.request_id for ask in asks],
            [ask.wallet_id for ask in asks],
            [ask.wanted for ask in asks],
            [ask.minimum for ask in asks],
            [ask.price_version for ask in asks],
            [ask.factor_ppm for ask in asks],
            [msgspec.json.encode(ask.facts).decode() for ask in asks],
        )
        return _in_order(rows)

    async def _ask_renewed(self, connection: Any, asks: Sequence[HoldAsk]) -> list[Any]:
        # Neighbours of these asks have their holds already, so a failure here leaves the whole batch in doubt.
        try:
            for ask in {ask.wallet_id: ask for ask in asks}.values():
                await self._renew(connection, ask.wallet_id, ask.plan)
            return await self._ask(connection, asks)
        except Exception as failure:
            raise BankUnavailable(f"while booking what is due: {type(failure).__name__}: {failure}") from failure

    async def _renew(self, connection: Any, wallet_id: UUID, plan: Plan | None) -> None:
        """Book what a wallet is due: grants that have ended, and the period that has begun."""
        async with connection.transaction():
            locked = await self._lock(connection, {wallet_id})
            if wallet_id not in locked.due:
                return
            await self._grants(connection, locked.wallets)
            wallet, now, booking = locked.wallets[wallet_id], locked.now, Booking()
            _expire(booking, wallet, now)
            period_end, source = _FOREVER, ""
            if plan is not None:
                start, period_end = bounds(plan, now)
                source = f"plan:{plan.name}:{start.isoformat()}"
            _take_back(booking, "replaced", wallet.replace_plan(source), now)
            known = await connection.fetchval(statements.SOURCE_KNOWN, wallet_id, source)
            if plan is not None and plan.amount > 0 and not known:
                _fill(booking, wallet, plan.amount, "plan", source, EXPENSE_PROMO, now, period_end)
            due_at = min(period_end, wallet.next_end() or _FOREVER)
            booking.touch(wallet, due_at if due_at > now else now + _LOOK_AGAIN)
            await self._write(connection, booking, now)

    async def _sweep(self, find: str, still: str, step: Any) -> int:
        async with self._transaction() as connection:
            found = await connection.fetch(find, _REAP_AT_ONCE)
            if not found:
                return 0
            locked = await self._lock(connection, {row["wallet_id"] for row in found})
            holds = await self._holds(connection, [row["id"] for row in found if row["wallet_id"] in locked.wallets])
            ripe = {row["id"] for row in await connection.fetch(still, list(holds))}
            await self._grants(connection, locked.wallets)
            booking = Booking()
            for hold in (holds[key] for key in holds if key in ripe):
                wallet = locked.wallets[hold.wallet_id]
                step(booking, wallet, hold, locked.now)
                booking.touch(wallet)
                booking.holds[hold.id] = hold
            await self._write(connection, booking, locked.now)
        return len(ripe)

    async def _lock(self, connection: Any, ids: Iterable[UUID]) -> _Locked:
        rows = await connection.fetch(statements.LOCK_WALLETS, list(ids))
        return _Locked(
            wallets={row["id"]: Wallet(row["id"], row["spendable"], row["held"]) for row in rows},
            due={row["id"] for row in rows if row["due"]},
            now=max((row["now"] for row in rows), default=_NEVER),
        )

    async def _known(self, connection: Any, events: Sequence[Settlement]) -> set[UUID]:
        """The wallets of these events that exist, locked or not."""
        if not events:
            return set()
        rows = await connection.fetch(statements.WALLETS_KNOWN, [event.wallet_id for event in events])
        return {row["id"] for row in rows}

    async def _grants(self, connection: Any, wallets: dict[UUID, Wallet], burnt: Iterable[Posting] = ()) -> None:
        also = [leg.grant_id for leg in burnt if leg.grant_id]
        for row in await connection.fetch(statements.GRANTS, list(wallets), also):
            wallets[row["wallet_id"]].grants.append(
                Grant(
                    row["id"],
                    row["kind"],
                    row["remaining"],
                    row["priority"],
                    row["expires_at"],
                    row["created_at"],
                    row["funding"],
                    row["source"],
                )
            )

    async def _holds(self, connection: Any, ids: Sequence[UUID]) -> dict[UUID, Hold]:
        rows = await connection.fetch(statements.HOLDS, list(ids))
        return {row["id"]: _hold(row) for row in rows}

    async def _prior(self, connection: Any, ids: Sequence[UUID]) -> dict[UUID, list[PriorCharge]]:
        if not ids:
            return {}
        charges: dict[tuple[UUID, str], tuple[Any, list[Posting]]] = {}
        for row in await connection.fetch(statements.PRIOR, list(ids)):
            _, legs = charges.setdefault((row["request_id"], row["rev"]), (row, []))
            if row["account"] is not None:
                legs.append(Posting(row["account"], row["posted"], row["wallet_id"], row["grant_id"]))
        prior: dict[UUID, list[PriorCharge]] = {}
        for (request_id, rev), (row, legs) in charges.items():
            charge = PriorCharge(Rev(rev), row["amount"], row["overrun"], tuple(legs))
            prior.setdefault(request_id, []).append(charge)
        return prior

    async def _write(self, connection: Any, booking: Booking, now: datetime) -> None:
        # What a closed hold kept from expiring, and what was given back to a grant that has ended, ends here.
        for wallet, _ in booking.wallets.values():
            _expire(booking, wallet, now)
        if booking.wallets:
            await connection.execute(statements.WRITE, booking.document().decode(), list(booking.holds))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """An asyncpg connection out of the engine's pool; every way the bank can be away becomes BankUnavailable."""
        try:
            async with self._engine.connect() as pooled:
                driver = await _driver(pooled)
                try:
                    yield driver
                finally:
                    if driver.is_closed():
                        await pooled.invalidate()
        except _BUSY as busy:
            raise BankBusy(str(busy)) from busy
        except _AWAY as away:
            raise BankUnavailable(f"{type(away).__name__}: {away}") from away

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._connection() as connection, connection.transaction():
            yield connection


async def _driver(pooled: AsyncConnection) -> Any:
    """The driver's connection; one the server closed while it was idle is replaced, so a restart refuses nobody."""
    driver = (await pooled.get_raw_connection()).driver_connection
    if driver is None or driver.is_closed():
        await pooled.invalidate()
        driver = (await pooled.get_raw_connection()).driver_connection
    return driver


def _reply(row: Any) -> HoldReply:
    # Still due after it was booked: another grant ended in that very moment, or somebody else is booking it.
    status = HoldStatus.BUSY if row["status"] == "due" else HoldStatus(row["status"])
    return HoldReply(status, row["amount"], row["available"])


def _in_order(rows: Iterable[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: row["n"])


def _hold(row: Any) -> Hold:
    return Hold(
        id=row["id"],
        wallet_id=row["wallet_id"],
        amount=row["amount"],
        spent=row["spent"],
        state=State(row["state"]),
        checkpoint=row["checkpoint"],
        usage=msgspec.json.decode(row["usage"], type=Usage),
        price_version=row["price_version"],
        factor_ppm=row["factor_ppm"],
        facts=msgspec.json.decode(row["facts"], type=CallFacts),
    )


def _settle(booking: Booking, wallet: Wallet, hold: Hold, prior: Sequence[PriorCharge], event: Settlement) -> None:
    closing = settle(wallet, hold, prior, event)
    if closing is not None:
        booking.charge(event, closing)
        booking.touch(wallet)
        booking.holds[hold.id] = hold


def _expire_hold(booking: Booking, wallet: Wallet, hold: Hold, now: datetime) -> None:
    event = provisional(hold, now)
    booking.charge(event, expire(wallet, hold))


def _release_hold(booking: Booking, wallet: Wallet, hold: Hold, now: datetime) -> None:
    release(wallet, hold)


def _expire(booking: Booking, wallet: Wallet, now: datetime) -> None:
    _take_back(booking, "expiry", wallet.expire(now), now)


def _take_back(booking: Booking, kind: str, entries: Iterable[list[Posting]], now: datetime) -> None:
    for legs in entries:
        booking.enter(kind, f"{kind}:{legs[0].grant_id}:{now.isoformat()}", now, legs)


def _fill(
    booking: Booking,
    wallet: Wallet,
    amount: int,
    kind: GrantKind,
    source: str,
    funding: str,
    now: datetime,
    expires_at: datetime | None,
) -> None:
    grant = Grant(uuid7(), kind, amount, PRIORITY[kind], expires_at, now, funding, source)
    credit_leg = wallet.add(grant)
    booking.enter("grant", f"grant:{grant.id}", now, [Posting(funding, amount), credit_leg])
    booking.new_grants.append(
        {
            "id": grant.id,
            "wallet_id": wallet.id,
            "kind": kind,
            "amount": amount,
            "priority": grant.priority,
            "starts_at": now,
            "expires_at": expires_at,
            "source": source,
            "funding": funding,
        }
    )
