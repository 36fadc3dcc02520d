"""The operator's desk: what the command line does to users, keys, money and the schema, with the functions all use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import FORWARD_USERS
from accounts.standing import NoTier, Standing, stand
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog import Catalog
from config.catalog_sql import load
from config.settings import Settings
from farebox import migrate as schema
from farebox.serve import engines, pepper_of
from ledger.audit import COMMAND_LINE
from ledger.money import format_usd, parse_usd
from ledger.period import Plan
from ledger.store import CreditKind, CreditOrder
from ledger.store_sql import PostgresBank, make_engine
from ledger.tables import charges
from ledger.verify import Finding
from ledger.verify import verify as verify_all
from ledger.wallet import token_wallet_id

# Who is at the desk has the database and its secrets.
_KINDS: dict[str, CreditKind] = {"paid": "payment", "promo": "grant"}


class DeskError(Exception):
    """What was asked cannot be done; the message says why."""


class Desk(NamedTuple):
    """The database at hand, with a current schema."""

    engine: AsyncEngine
    accounts: Accounts
    bank: PostgresBank
    default_tier: str


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Open the database the settings name. Raises DeskError when its schema is not this release's."""
    async with engines(settings) as urls:
        status = await schema.status(urls.database)
        if status.state != "current":
            raise DeskError(status.sentence)
        engine = make_engine(urls.database, size=2, command_timeout_s=600, name="farebox desk")
        try:
            pepper = await asyncio.to_thread(pepper_of, settings)
            accounts = Accounts(
                engine,
                pepper=pepper.get_secret_value().encode(),
                default_tier=settings.default_tier,
                default_language=settings.default_language,
            )
            await accounts.check_pepper()
            yield Desk(engine, accounts, PostgresBank(engine, owner="desk"), settings.default_tier)
        finally:
            await engine.dispose()


async def verify_ledger(settings: Settings) -> list[Finding]:
    """Every invariant of the ledger, recomputed."""
    async with open_desk(settings) as desk:
        return await verify_all(desk.engine)


async def migrate(settings: Settings, what: str, steps: int | None = 1) -> str:
    """Move the schema, or look at it; the sentence that says where it stands."""
    async with engines(settings) as urls:
        if what == "up":
            await schema.upgrade(urls.database)
        elif what == "down":
            await schema.downgrade(urls.database, steps)
        return (await schema.status(urls.database)).sentence


async def create_user(
    settings: Settings, name: str, *, email: str, tier: str | None, credit: str | None
) -> dict[str, Any]:
    """A user with a key, which is in the answer and nowhere else."""
    amount = _usd(credit) if credit else 0
    async with open_desk(settings) as desk:
        if tier is not None:
            _known_tier(await load(desk.engine), tier)
        user = await desk.accounts.create_user(name=name, email=email, tier=tier, by=COMMAND_LINE)
        full, _ = await desk.accounts.create_key(name=f"{name}'s first key", user_id=user.id, by=COMMAND_LINE)
        if amount:
            order = CreditOrder(user.wallet_id, "payment", amount, "first payment", "desk:first")
            await desk.bank.adjust(order, COMMAND_LINE)
        return {"user": user.id, "tier": user.tier, "key": full}


async def show_user(settings: Settings, who: str) -> dict[str, Any]:
    """Who it is, what is left, and the last charges."""
    async with open_desk(settings) as desk:
        user = await _user(desk, who)
        standing = await _standing(desk, user)
        balance = await desk.bank.balance(standing.wallet_id, standing.money_plan)
        shown = {
            "user": user.id,
            "email": user.email,
            "name": user.name,
            "tier": standing.tier.name,
            "status": user.status,
            "balance": f"{format_usd(balance.available)} USD",
            "held": f"{format_usd(balance.held)} USD",
        }
        return shown | await _tokens_left(desk, standing) | {"charges": await _last_charges(desk, user.id)}


async def set_tier(settings: Settings, who: str, tier: str) -> dict[str, Any]:
    """Another tier for a user."""
    async with open_desk(settings) as desk:
        _known_tier(await load(desk.engine), tier)
        user = await _user(desk, who)
        await desk.accounts.set_tier(user.id, tier, by=COMMAND_LINE)
        return {"user": user.id, "tier": tier}


async def credit(
    settings: Settings, who: str, usd: str, *, kind: str, ref: str, expires_at: datetime | None
) -> dict[str, Any]:
    """Money into a wallet, once for each ``ref``."""
    if kind not in _KINDS:
        raise DeskError(f"kind must be paid or promo, not {kind}")
    amount = _usd(usd)
    async with open_desk(settings) as desk:
        user = await _user(desk, who)
        order = CreditOrder(user.wallet_id, _KINDS[kind], amount, ref, f"desk:{ref}", expires_at)
        try:
            done = await desk.bank.adjust(order, COMMAND_LINE)
        except ValueError as error:
            raise DeskError(str(error)) from None
        balance = await desk.bank.balance(user.wallet_id, await _own_plan(desk, user))
        said = "yes" if done.created else "no: it was there already"
        return {"user": user.id, "booked": said, "balance": format_usd(balance.available)}


async def create_key(
    settings: Settings,
    name: str,
    *,
    user: str,
    forward_users: bool,
    plain_headers: bool,
    realm: str,
    expires_at: datetime | None,
) -> dict[str, Any]:
    """A key of a user, or of a service that forwards its users; shown once."""
    if bool(user) == forward_users:
        raise DeskError("a key belongs either to a user (--user) or to a service (--forward-users)")
    async with open_desk(settings) as desk:
        owner = await _user(desk, user) if user else None
        full, key = await desk.accounts.create_key(
            name=name,
            user_id=owner.id if owner else None,
            scopes=[FORWARD_USERS] if forward_users else [],
            realm=realm if forward_users else "",
            plain_headers=plain_headers,
            expires_at=expires_at,
            by=COMMAND_LINE,
        )
        return {"id": key.id, "name": key.name, "key": full}


async def list_keys(settings: Settings) -> list[dict[str, Any]]:
    """All keys, without their secrets."""
    async with open_desk(settings) as desk:
        return [
            {
                "id": key.id,
                "prefix": key.prefix,
                "name": key.name,
                "of": key.user_id or f"service {key.realm}",
                "scopes": ", ".join(key.scopes) or "–",
                "expires": key.expires_at or "never",
                "revoked": key.revoked_at or "no",
                "last used": key.last_used_at or "never",
            }
            for key in await desk.accounts.list_keys()
        ]


async def revoke_key(settings: Settings, which: str) -> dict[str, Any]:
    """Revoke the key of this prefix or id."""
    async with open_desk(settings) as desk:
        for key in await desk.accounts.list_keys():
            if which in (key.prefix, str(key.id)):
                await desk.accounts.revoke_key(key.id, by=COMMAND_LINE)
                return {"revoked": key.name, "id": key.id}
    raise DeskError(f"there is no key {which}")


async def _user(desk: Desk, who: str) -> User:
    user = await desk.accounts.find_user(who)
    if user is None:
        raise DeskError(f"no user, or more than one, answers to {who}")
    return user


async def _standing(desk: Desk, user: User) -> Standing:
    try:
        return stand(user, await load(desk.engine), desk.default_tier, datetime.now(UTC))
    except NoTier as error:
        raise DeskError(str(error)) from None


async def _own_plan(desk: Desk, user: User) -> Plan | None:
    """What the user's own wallet is given each period: nothing where a group shares one."""
    try:
        standing = stand(user, await load(desk.engine), desk.default_tier, datetime.now(UTC))
    except NoTier:
        return None
    return standing.money_plan if standing.wallet_id == user.wallet_id else None


async def _tokens_left(desk: Desk, standing: Standing) -> dict[str, Any]:
    plan = standing.token_plan
    if plan is None:
        return {}
    try:
        left = (await desk.bank.balance(token_wallet_id(standing.wallet_id), plan)).available
    except LookupError:  # nothing of it was ever used
        left = plan.amount
    return {"tokens": left}


async def _last_charges(desk: Desk, user_id: UUID) -> str:
    query = select(charges).where(charges.c.user_id == user_id).order_by(charges.c.request_id.desc()).limit(10)
    async with desk.engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    lines = [f"{row.at:%Y-%m-%d %H:%M:%S} {row.model} {row.task or row.route} {format_usd(row.amount)}" for row in rows]
    return ("\n" + " " * 15).join(lines) or "none"


def _known_tier(catalog: Catalog, tier: str) -> None:
    if catalog.tier(tier) is None:
        raise DeskError(f"there is no tier {tier}; known are {', '.join(sorted(catalog.tiers)) or 'none'}")


def _usd(text: str) -> int:
    try:
        amount = parse_usd(text)
    except ValueError as error:
        raise DeskError(str(error)) from None
    if amount <= 0:
        raise DeskError("the amount must be above zero")
    return amount
