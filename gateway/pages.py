"""The pages people come to by a link: the price list, for everybody, and their own account, for a while.

They show and do nothing else. An account page is opened by the token of its link (``links.py``), which is no key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from accounts.directory import Directory
from accounts.standing import Standing
from config.catalog import Catalog
from gateway.account import Account
from gateway.account_page import Account as Shown
from gateway.account_page import Line, Used, account_page, failed_page
from gateway.errors import Refusal
from gateway.identity import StandingOf, active, principal_of
from gateway.language import Language, Wait
from gateway.links import Links, Opened
from gateway.offer import ladder, offer
from gateway.page import headers
from gateway.pricing_page import pricing_page
from gateway.voice import Voice
from ledger.charge_list import ChargeFilter, charges
from ledger.journal import CURRENCY, TOKENS
from ledger.statement import entries
from ledger.usage_read import ModelUsage, ids_of, used_by_model
from ledger.wallet import token_wallet_id
from policies.principal import Principal

_log = logging.getLogger("farebox.gateway")
_LINES = 50
_RETRY_S = 5
_PATIENCE_S = 5.0
# Whoever has a link may ask for the page again and again: calls, who share the pool, are not to wait for that.
_AT_ONCE = 2
_ACCEPTED_MAX = 200  # characters of a header that names languages
_PUBLIC = {"cache-control": "public, max-age=60", "vary": "Accept-Language"}
_MODELS_MAX = 50


class Pricing:
    """``GET /pricing`` and ``GET /api/public/pricing``; each is made once for each catalogue and language."""

    def __init__(self, catalog: Callable[[], Catalog], voice: Voice) -> None:
        self._catalog = catalog
        self._voice = voice
        self._revision = ""
        self._made: dict[tuple[str, str], bytes] = {}

    async def page(self, request: Request) -> Response:
        body = self._cached("page", self._language(request), pricing_page)
        return Response(body, headers={**headers(), **_PUBLIC})

    async def document(self, request: Request) -> Response:
        body = self._cached("document", self._language(request), _document)
        return Response(body, media_type="application/json", headers=_PUBLIC)

    def _cached(self, what: str, language: Language, make: Callable[[Catalog, Language], bytes]) -> bytes:
        catalog = self._catalog()
        if catalog.revision != self._revision:
            self._made.clear()
            self._revision = catalog.revision
        if (what, language.code) not in self._made:
            self._made[what, language.code] = make(catalog, language)
        return self._made[what, language.code]

    def _language(self, request: Request) -> Language:
        return self._voice.language(*asked_languages(request))


class AccountPage:
    """``GET /account?token=…``."""

    def __init__(
        self,
        *,
        links: Links,
        directory: Directory,
        standing_of: StandingOf,
        account: Account,
        catalog: Callable[[], Catalog],
        engine: AsyncEngine,
        voice: Voice,
    ) -> None:
        self._links = links
        self._directory = directory
        self._standing_of = standing_of
        self._account = account
        self._catalog = catalog
        self._engine = engine
        self._voice = voice
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, request: Request) -> Response:
        opened = self._links.read(request.query_params.get("token", ""))
        if opened is None:
            return self._failed(request, 403, "link_bad")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                async with self._turn:
                    shown = await self._shown(opened)
        except Exception as error:
            _log.warning("account page not shown", extra={"error": type(error).__name__})
            return self._failed(request, 503, "cannot_read", wait=Wait(_RETRY_S))
        if shown is None:
            return self._failed(request, 403, "link_bad")
        principal, account = shown
        return _personal(account_page(account, self._voice.language(*_chosen(request), principal.language)), 200)

    def _failed(self, request: Request, status: int, key: str, **values: Wait) -> Response:
        language = self._voice.language(*asked_languages(request))
        return _personal(failed_page(language, key, self._links.pricing, **values), status)

    async def _shown(self, opened: Opened) -> tuple[Principal, Shown] | None:
        """None where the link is nobody's any more."""
        caller = await self._caller(opened)
        if caller is None:
            return None
        principal, standing = caller
        catalog = self._catalog()
        account = Shown(
            state=await self._account.state(principal),
            tier=standing.tier,
            usage=await self._usage(principal.user_id),
            lines=await self._lines(principal, standing),
            tiers=ladder(catalog),
            pricing_url=self._links.pricing,
            until=datetime.fromtimestamp(opened.until, UTC),
        )
        return principal, account

    async def _caller(self, opened: Opened) -> tuple[Principal, Standing] | None:
        user = await self._directory.user(opened.user_id)
        if user is None or user.id != opened.user_id:
            return None
        issued = opened.until - self._links.lasts_s
        if user.sessions_from is not None and issued < user.sessions_from.timestamp():
            return None
        try:
            standing = await self._standing_of(active(user))
        except Refusal:
            return None
        return principal_of(user, standing), standing

    async def _usage(self, user_id: UUID) -> tuple[Used, ...]:
        """This month's, by model: a person does not think in tasks."""
        now = datetime.now(UTC)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        sums: dict[tuple[str, str], Used] = {}
        for row in await used_by_model(self._engine, await ids_of(self._engine, user_id), first, now):
            known = sums.get((row.model, row.currency)) or Used(row.model, row.currency, 0, 0, 0, 0)
            sums[row.model, row.currency] = _added(known, row)
        return tuple(sorted(sums.values(), key=lambda row: -row.amount))[:_MODELS_MAX]

    async def _lines(self, principal: Principal, standing: Standing) -> tuple[Line, ...]:
        """The wallet's last entries. Where others spend from it, too, the person's own calls alone."""
        if principal.group is not None and principal.group.shared:
            users = await ids_of(self._engine, principal.user_id)
            own = await charges(self._engine, ChargeFilter(users=users), before=None, limit=_LINES)
            return tuple(Line(each.at, "charge", -each.amount, each.currency, each.model) for each in own)
        found = await self._entries(principal.wallet_id, CURRENCY)
        if standing.token_plan is not None:
            found += await self._entries(token_wallet_id(principal.wallet_id), TOKENS)
        return tuple(sorted(found, key=lambda line: line.at, reverse=True)[:_LINES])

    async def _entries(self, wallet_id: UUID, currency: str) -> list[Line]:
        rows = await entries(self._engine, wallet_id, before=None, limit=_LINES)
        return [Line(row.at, _kind(row.kind, row.by_kind), row.amount, currency) for row in rows]


def page_routes(pricing: Pricing, account: AccountPage) -> list[Route]:
    """Where the pages are."""
    return [
        Route("/pricing", pricing.page, methods=["GET"]),
        Route("/api/public/pricing", pricing.document, methods=["GET"]),
        Route("/account", account.__call__, methods=["GET"]),
    ]


def asked_languages(request: Request) -> list[str]:
    """The languages a reader asks for, by the address or the browser, the best first."""
    accepted = request.headers.get("accept-language", "")[:_ACCEPTED_MAX]
    ranked = [_ranked(part) for part in accepted.split(",") if part.strip()]
    return [*_chosen(request), *(code for _, code in sorted(ranked, key=lambda each: -each[0]))]


def _chosen(request: Request) -> list[str]:
    chosen = request.query_params.get("lang", "")
    return [chosen[:16]] if chosen else []


def _ranked(part: str) -> tuple[float, str]:
    code, _, rest = part.strip().partition(";")
    weight = rest.strip().removeprefix("q=")
    return (float(weight) if weight.replace(".", "", 1).isdecimal() else 1.0), code.strip()


def _document(catalog: Catalog, language: Language) -> bytes:
    return msgspec.json.encode(offer(catalog, language))


def _personal(body: bytes, status: int) -> Response:
    return Response(body, status, headers={**headers(), "x-robots-tag": "noindex"})


def _added(known: Used, row: ModelUsage) -> Used:
    sums = {
        name: getattr(known, name) + getattr(row, name) for name in ("calls", "input_tokens", "output_tokens", "amount")
    }
    return Used(row.model, row.currency, **sums)


def _kind(kind: str, by_kind: dict[str, int]) -> str:
    """What a person calls it: a period's allowance and money paid in are booked as grants like any other."""
    if kind != "grant":
        return kind
    return "plan" if "plan" in by_kind else "payment" if "paid" in by_kind else kind
