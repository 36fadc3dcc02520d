"""The composition root of the admin API: what it works with in, an ASGI application out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from accounts.store_sql import Accounts
from admin_api import (
    acting,
    admins,
    audit,
    auth,
    catalog,
    charges,
    credits,
    group_members,
    group_money,
    groups,
    keys,
    limits,
    logs,
    merges,
    models,
    openwebui,
    outside,
    pages,
    prices,
    stats,
    tasks,
    tiers,
    upstreams,
    usage,
    usage_stats,
    users,
)
from admin_api.admin_accounts import AdminAccounts
from admin_api.document import describe
from admin_api.door import App, Carried, Door, Scope
from admin_api.gatekeeper import Gatekeeper
from admin_api.house import AdminHouse, Explain
from admin_api.logins import Logins
from admin_api.once import Once
from admin_api.passwords import Passwords
from admin_api.sessions import Sessions
from admin_api.tokens import Tokens
from admin_api.tries import Tries
from config.catalog import Catalog
from config.settings import Settings
from ledger.store_sql import PostgresBank, make_engine
from ledger.system_events import record
from openwebui.sync import Sync
from policies.buckets import Buckets

_log = logging.getLogger("farebox.admin")
_POOL = 4
_STATEMENT_S = 30.0
_SWEEP_S = 3600.0
_REFUSED_LOGINS = 60  # a minute and address

_ROUTERS: tuple[APIRouter, ...] = (
    auth.router,
    admins.router,
    users.router,
    credits.router,
    limits.router,
    usage.router,
    acting.router,
    merges.router,
    keys.router,
    groups.router,
    group_members.router,
    group_money.router,
    audit.router,
    logs.router,
    tiers.router,
    tasks.router,
    upstreams.router,
    prices.router,  # before the models', whose ids may hold slashes
    models.router,
    catalog.router,
    charges.router,
    outside.router,
    openwebui.router,
    stats.router,
    usage_stats.router,
)
"""Each noun's routes. Every router's paths begin with /v1."""


@cache
def application() -> FastAPI:
    """The routes with their description; they reach the house through the request, so one is enough for a process."""
    app = FastAPI(
        title="Farebox admin API",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Taken over one by one, so that what there is can be looked at in one list.
    for router in (*_ROUTERS, pages.router):
        app.router.routes.extend(router.routes)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _handed_on)
    app.add_middleware(Carried)
    return app


@asynccontextmanager
async def open_admin(
    settings: Settings,
    *,
    database_url: str,
    accounts: Accounts,
    bank: PostgresBank,
    buckets: Buckets,
    catalog: Callable[[], Catalog],
    explain: Explain,
    pepper: bytes,
    admin_key: str | None,
    sync: Sync | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[App]:
    """The admin API on these engines, with a migrated schema. Without ``admin_key`` only accounts may log in."""
    async with AsyncExitStack() as stack:
        engine = make_engine(
            database_url,
            size=_POOL,
            command_timeout_s=_STATEMENT_S,
            name="farebox admin",
            ask_first=True,
            for_reports=True,
        )
        stack.push_async_callback(engine.dispose)
        passwords = Passwords()
        stack.callback(passwords.close)
        tokens = Tokens(pepper)
        sessions, logins, once = Sessions(engine, tokens), Logins(engine), Once(engine, pepper)
        house = AdminHouse(
            settings=settings,
            engine=engine,
            accounts=accounts,
            bank=bank,
            buckets=buckets,
            catalog=catalog,
            explain=explain,
            sync=sync,
            pepper=pepper,
            now=now,
            admins=AdminAccounts(engine),
            logins=logins,
            sessions=sessions,
            passwords=passwords,
            tokens=tokens,
        )
        gatekeeper = Gatekeeper(
            admin_key=admin_key,
            tokens=tokens,
            sessions=sessions,
            accounts=accounts,
            tries=Tries(time.monotonic),
            logins=Tries(time.monotonic, most=_REFUSED_LOGINS),
            now=now,
        )
        sweeping = asyncio.create_task(_sweep(house, once), name="admin sweep")
        stack.push_async_callback(_cancelled, sweeping)
        yield Door(
            application(), house, takes=_takes, gatekeeper=gatekeeper, once=once, trusted=settings.trusted_proxies
        )


async def _sweep(house: AdminHouse, once: Once) -> None:
    """Forget what nobody needs any more, every hour; in every replica, which does no harm."""
    while True:
        for each in (once, house.logins, house.sessions):
            await _swept(house, type(each).__name__, each.sweep)
        await asyncio.sleep(_SWEEP_S)


async def _swept(house: AdminHouse, what: str, sweep: Callable[[], Awaitable[None]]) -> None:
    try:
        await sweep()
    except Exception as error:
        _log.warning("not swept", extra={"what": what, "reason": repr(error)})
        await record(house.engine, "warning", "admin.sweep_failed", what=what, reason=type(error).__name__)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _handed_on(request: Request, error: Exception) -> Response:
    """Nothing is answered in here: the door tells every problem in one way."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        # The framework names the methods of the first route of this path only.
        error.headers = {"allow": ", ".join(_methods(request))}
    raise error


def _takes(scope: Scope) -> bool:
    """Whether there is a route for this method and path."""
    return any(route.matches(scope)[0] is Match.FULL for route in application().routes)


def _methods(request: Request) -> list[str]:
    """What may be done at this path."""
    routes = [route for route in request.app.routes if isinstance(route, Route | APIRoute)]
    there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in route.methods or ()})
