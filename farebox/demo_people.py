"""Who calls in the demo: one user for each tier with a key, and a service that forwards its users. Made once.

Keys cannot be shown again, so the demo's stand in a file of its data folder, mode 0600, and each run uses them again.
Nothing but the demo keeps keys in this way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from accounts.keys import FORWARD_USERS, Minted, mint, parse
from accounts.store_sql import Accounts
from accounts.users import User
from ledger.money import parse_usd
from ledger.store import Bank

_SERVICE = "open-webui"


@dataclass(frozen=True, slots=True)
class Guest:
    """Someone who calls. ``usd`` was paid in once, on the first run; "" is nothing."""

    name: str
    tier: str
    usd: str = ""
    key: str = ""


GUESTS = (
    Guest("Fay", "free"),
    Guest("Tess", "tester"),
    Guest("Bo", "basic"),
    Guest("Paula", "pro", "5.00"),
    Guest("Ada", "admin"),
)


@dataclass(frozen=True, slots=True)
class People:
    """Everybody with a key: the guests by tier, and the key of the service that names its users in headers."""

    guests: dict[str, Guest]
    service_key: str


class KeyRing:
    """The file with the demo's keys, by whose they are. Raises OSError; msgspec.ValidationError for a spoilt file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}

    def key(self, whose: str) -> Minted:
        """The key of this name; made and written down where there is none yet."""
        full = self._keys.get(whose, "")
        presented = parse(full)
        if presented is not None:
            return Minted(full, *presented)
        minted = mint()
        self._keys[whose] = minted.full
        self._write()
        return minted

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self._keys)))
        draft.replace(self._path)


async def seat(accounts: Accounts, bank: Bank, ring: KeyRing) -> People:
    """Everybody, made where they are not there yet. Raises AccountsUnavailable, BankUnavailable."""
    guests = {}
    for guest in GUESTS:
        user = await accounts.create_user(
            name=guest.name, email=f"{guest.name.lower()}@example.org", tier=guest.tier, subject=f"demo-{guest.tier}"
        )
        if guest.usd:
            amount = parse_usd(guest.usd)
            await bank.credit(user.wallet_id, amount, "paid", source="demo:first", funding="cash:demo")
        key = await _known_key(accounts, ring.key(guest.tier), guest.name, user)
        guests[guest.tier] = Guest(guest.name, guest.tier, guest.usd, key)
    return People(guests, await _known_key(accounts, ring.key(_SERVICE), _SERVICE, None))


async def _known_key(accounts: Accounts, minted: Minted, name: str, user: User | None) -> str:
    """The key as text, after making sure that the database knows it: of this user, or of the service."""
    if not await accounts.find_keys([minted.prefix]):
        await accounts.create_key(
            name=name,
            user_id=user.id if user else None,
            scopes=() if user else (FORWARD_USERS,),
            realm="" if user else _SERVICE,
            plain_headers=user is None,
            minted=minted,
        )
    return minted.full
