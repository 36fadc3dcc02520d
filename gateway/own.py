"""``GET /v1/account/usage`` and ``GET /v1/account/ledger``: what a caller used, and what its wallet got and gave.

A caller reads its own figures alone: whatever chat, answer or page is named, only its own charges are looked at; and of
a wallet that a group shares, only its own calls.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from accounts.keys import ACCOUNT
from gateway.admission import ledger_away
from gateway.errors import Refusal
from gateway.identity import Identity, ServiceKey
from gateway.sentences import instant
from ledger.charge_list import ChargeFilter, ListedCharge, charges
from ledger.journal import CURRENCY, TOKENS
from ledger.money import format_usd
from ledger.own_usage import GROUPS, PAGE_MAX, Group, OwnFilter, OwnUsage, own_usage
from ledger.statement import StatementLine, entries
from ledger.usage_read import ids_of
from ledger.wallet import token_wallet_id
from policies.principal import Principal

T = TypeVar("T")

SPAN_MAX = timedelta(days=31)
CHAT_SPAN_MAX = timedelta(days=400)
"""How much time one question may span: of a chat or an answer, which an index finds, more."""

_USUAL = 100
_LABEL_MAX = 200
_AWAY = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Own:
    """Both routes. ``engine`` is a small pool of its own: whoever reads long lists takes no connection from a call."""

    def __init__(self, identity: Identity, engine: AsyncEngine, now: Callable[[], datetime]) -> None:
        self._identity = identity
        self._engine = engine
        self._now = now

    async def usage(self, request: Request) -> Response:
        """In all, or by ``group_by``; of one ``chat_id`` or ``message_id``; between ``since`` and ``until``."""
        principal, query = await self._caller(request), request.query_params
        group, limit = _one_of(query, "group_by", GROUPS), _limit(query)
        chat, message = _label(query, "chat_id"), _label(query, "message_id")
        until = _moment(query, "until") or self._now()
        longest = SPAN_MAX if chat is None and message is None else CHAT_SPAN_MAX
        since = _moment(query, "since") or until - longest
        if not timedelta(0) <= until - since <= longest:
            raise _wrong("since", f"must lie before until, by at most {longest.days} days")
        kind = f"usage:{group}"
        after: str | UUID | None = _cursor(query, kind, UUID) if group == "chat" else _cursor(query, kind, str)
        try:
            wanted = OwnFilter(await ids_of(self._engine, principal.user_id), since, until, chat, message)
            rows = await own_usage(self._engine, wanted, group, after=after, limit=limit + 1)
        except _AWAY:
            raise ledger_away() from None
        data = [_usage(row, group) for row in rows[:limit]]
        more = _place(rows[limit - 1], group) if len(rows) > limit and group is not None else None
        span = {"since": instant(since), "until": instant(until), "group_by": group}
        return _page(data, more and _written(kind, more), **span)

    async def ledger(self, request: Request) -> Response:
        """Entries of the caller's wallet, newest first; ``currency=tokens`` for those of its allowance in tokens."""
        principal, query = await self._caller(request), request.query_params
        currency = TOKENS if _one_of(query, "currency", ("usd", "tokens")) == "tokens" else CURRENCY
        limit, before = _limit(query), _cursor(query, f"ledger:{currency}", UUID)
        try:
            lines = await self._lines(principal, currency, before, limit + 1)
        except _AWAY:
            raise ledger_away() from None
        more = lines[limit - 1]["id"] if len(lines) > limit else None
        return _page(lines[:limit], more and _written(f"ledger:{currency}", str(more)))

    async def _lines(
        self, principal: Principal, currency: str, before: UUID | None, limit: int
    ) -> list[dict[str, Any]]:
        if principal.group is not None and principal.group.shared:
            # What others spend of the wallet they share is theirs to see.
            wanted = ChargeFilter(users=await ids_of(self._engine, principal.user_id), currency=currency)
            return [_call(each) for each in await charges(self._engine, wanted, before=before, limit=limit)]
        wallet = principal.wallet_id if currency == CURRENCY else token_wallet_id(principal.wallet_id)
        return [_line(each, currency) for each in await entries(self._engine, wallet, before=before, limit=limit)]

    async def _caller(self, request: Request) -> Principal:
        principal = await self._identity.identify(request.scope["headers"], ACCOUNT)
        if isinstance(principal, ServiceKey):
            raise principal.no_user()
        return principal


def own_routes(own: Own) -> list[Route]:
    """The two routes."""
    return [
        Route("/v1/account/usage", own.usage, methods=["GET"]),
        Route("/v1/account/ledger", own.ledger, methods=["GET"]),
    ]


def _usage(row: OwnUsage, group: Group | None) -> dict[str, Any]:
    key: dict[str, Any] = {} if group is None else {group: _shown(row.key)}
    return {
        **key,
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "cost": format_usd(row.amount),
        "cost_tokens": row.amount_tokens,
        "house_cost": format_usd(row.house_amount),
    }


def _line(line: StatementLine, currency: str) -> dict[str, Any]:
    shown: Callable[[int], Any] = format_usd if currency == CURRENCY else int
    kind, _, rest = line.ref.partition(":")
    return {
        "id": line.entry_id,
        "at": instant(line.at),
        "kind": line.kind,
        "amount": shown(line.amount),
        "by_kind": {name: shown(amount) for name, amount in line.by_kind.items()},
        "request_id": rest.partition(":")[0] if kind == "charge" else None,
    }


def _call(charge: ListedCharge) -> dict[str, Any]:
    """A call that a shared wallet paid, as its own caller sees it."""
    shown: Callable[[int], Any] = format_usd if charge.currency == CURRENCY else int
    paid = 0 if charge.house else charge.amount - charge.overrun
    return {
        "id": charge.request_id,
        "at": instant(charge.at),
        "kind": "charge",
        "amount": shown(-paid),
        "by_kind": {},
        "request_id": charge.request_id,
    }


def _shown(key: datetime | str | None) -> str:
    return f"{key:%Y-%m-%d}" if isinstance(key, datetime) else str(key)


def _place(row: OwnUsage, group: Group) -> str:
    """Behind which row the next page begins."""
    return str(row.last) if group == "chat" else _shown(row.key)


def _page(data: list[dict[str, Any]], cursor: str | None, **more: Any) -> Response:
    body = {"object": "list", **more, "data": data, "has_more": cursor is not None, "next_cursor": cursor}
    return Response(msgspec.json.encode(body), media_type="application/json", headers={"cache-control": "no-store"})


# What may be asked --------------------------------------------------------------------------------------------------


def _one_of(query: Mapping[str, str], name: str, known: tuple[T, ...]) -> T | None:
    given = query.get(name)
    if given is None:
        return None
    for each in known:
        if each == given:
            return each
    raise _wrong(name, f"must be one of {', '.join(map(str, known))}")


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", str(_USUAL))
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) < PAGE_MAX):
        raise _wrong("limit", f"must be a whole number from 1 to {PAGE_MAX - 1}")
    return int(given)


def _label(query: Mapping[str, str], name: str) -> str | None:
    given = query.get(name)
    if given is not None and not (0 < len(given) <= _LABEL_MAX and given.isprintable()):
        raise _wrong(name, f"must be printable text of at most {_LABEL_MAX} characters")
    return given


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    given = query.get(name)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is not None and 1970 < moment.year < 9000:
            return moment
    except ValueError:
        pass
    raise _wrong(name, "must be an instant with its zone, like 2026-12-01T00:00:00Z")


def _written(kind: str, place: str) -> str:
    return urlsafe_b64encode(f"{kind}\n{place}".encode()).decode().rstrip("=")


def _cursor(query: Mapping[str, str], kind: str, type_: Callable[[str], T]) -> T | None:
    """The place of a page of this very list."""
    given = query.get("cursor")
    if given is None:
        return None
    try:
        of, _, place = urlsafe_b64decode(given + "=" * (-len(given) % 4)).decode().partition("\n")
        if of == kind and "\0" not in place:
            return type_(place)
    except ValueError:
        pass
    raise _wrong("cursor", "is not a cursor of this list")


def _wrong(name: str, what: str) -> Refusal:
    return Refusal.of("invalid_request", f"{name} {what}.", param=name)
