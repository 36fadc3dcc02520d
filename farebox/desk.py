"""The operator's desk: what the command line does to users, keys, money and the schema, with the functions all use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import FORWARD_USERS
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog import Catalog
from config.catalog_sql import load
from config.settings import Settings
from farebox import migrate as schema
from farebox.serve import engines, pepper_of
from gateway.admission import plan_of
from ledger.journal import EXPENSE_PROMO
from ledger.money import format_usd, parse_usd
from ledger.store_sql import PostgresBank, make_engine
from ledger.tables import charges
from ledger.verify import Finding
from ledger.verify import verify as verify_all
from ledger.wallet import GrantKind


class DeskError(Exception):
    """What was asked cannot be done; the message says why."""


class Desk(NamedTuple):
    """The database at hand, with a current schema."""

    engine: AsyncEngine
    accounts: Accounts
    bank: PostgresBank


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
            yield Desk(engine, accounts, PostgresBank(engine, owner="desk"))
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
        user = await desk.accounts.create_user(name=name, email=email, tier=tier)
        full, _ = await desk.accounts.create_key(name=f"{name}'s first key", user_id=user.id)
        if amount:
            await desk.bank.credit(user.wallet_id, amount, "paid", source="desk:first", funding="cash:desk")
        return {"user": user.id, "tier": user.tier, "key": full}


async def show_user(settings: Settings, who: str) -> dict[str, Any]:
    """Who it is, what is left, and the last charges."""
    async with open_desk(settings) as desk:
        user = await _user(desk, who)
        tier = (await load(desk.engine)).tier(user.tier)
        balance = await desk.bank.balance(user.wallet_id, plan_of(tier) if tier else None)
        shown = {
            "user": user.id,
            "email": user.email,
            "name": user.name,
            "tier": user.tier,
            "status": user.status,
            "balance": f"{format_usd(balance.available)} USD",
            "held": f"{format_usd(balance.held)} USD",
        }
        return shown | {"charges": await _last_charges(desk, user.id)}


async def set_tier(settings: Settings, who: str, tier: str) -> dict[str, Any]:
    """Another tier for a user."""
    async with open_desk(settings) as desk:
        _known_tier(await load(desk.engine), tier)
        user = await _user(desk, who)
        await desk.accounts.set_tier(user.id, tier)
        return {"user": user.id, "tier": tier}


async def credit(
    settings: Settings, who: str, usd: str, *, kind: str, ref: str, expires_at: datetime | None
) -> dict[str, Any]:
    """Money into a wallet, once for each ``ref``."""
    if kind not in ("paid", "promo"):
        raise DeskError(f"kind must be paid or promo, not {kind}")
    amount = _usd(usd)
    async with open_desk(settings) as desk:
        user = await _user(desk, who)
        booked = await desk.bank.credit(
            user.wallet_id,
            amount,
            cast(GrantKind, kind),
            source=f"desk:{ref}",
            funding="cash:desk" if kind == "paid" else EXPENSE_PROMO,
            expires_at=expires_at,
        )
        tier = (await load(desk.engine)).tier(user.tier)
        balance = await desk.bank.balance(user.wallet_id, plan_of(tier) if tier else None)
        said = "yes" if booked else "no: it was there already"
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
                await desk.accounts.revoke_key(key.id)
                return {"revoked": key.name, "id": key.id}
    raise DeskError(f"there is no key {which}")


async def _user(desk: Desk, who: str) -> User:
    user = await desk.accounts.find_user(who)
    if user is None:
        raise DeskError(f"no user, or more than one, answers to {who}")
    return user


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
