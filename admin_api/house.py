"""What the routes of the admin API work with: one value, made when Farebox starts, reached as a dependency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts
from accounts.users import User
from admin_api.admin_accounts import AdminAccounts
from admin_api.logins import Logins
from admin_api.passwords import Passwords
from admin_api.sessions import Sessions
from admin_api.tokens import Tokens
from config.catalog import Catalog
from config.settings import Settings
from ledger.store_sql import PostgresBank
from openwebui.sync import Sync
from policies.buckets import Buckets
from policies.explanation import Explanation

Explain = Callable[[User, str | None, datetime, str], Awaitable[Explanation]]


@dataclass(frozen=True, slots=True)
class AdminHouse:
    """``engine`` is the admin API's own small pool: a long list never takes a connection from a call. ``explain``
    tells what this user's next call on this model, for this task ("": none), would meet, without spending. ``sync``
    brings an Open WebUI's people; None where the settings name none."""

    settings: Settings
    engine: AsyncEngine
    accounts: Accounts
    bank: PostgresBank
    buckets: Buckets
    catalog: Callable[[], Catalog]
    explain: Explain
    pepper: bytes
    now: Callable[[], datetime]
    admins: AdminAccounts
    logins: Logins
    sessions: Sessions
    passwords: Passwords
    tokens: Tokens
    sync: Sync | None = None


def _house(request: Request) -> AdminHouse:
    house: AdminHouse = request.state.house
    return house


House = Annotated[AdminHouse, Depends(_house)]
