"""What a caller may read without spending: its own account, and the models its tier grants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from accounts.keys import ACCOUNT
from config.catalog import Catalog, Model
from gateway.admission import Admitter, ledger_away
from gateway.errors import Refusal
from gateway.identity import Identity, ServiceKey
from gateway.order import no_model
from gateway.purse import money_of, tokens_of
from gateway.sentences import instant
from ledger.ids import uuid7
from ledger.money import format_price, format_usd
from ledger.period import Plan, bounds
from ledger.store import Balance, Bank, BankUnavailable
from ledger.wallet import token_wallet_id
from policies.buckets import Buckets, BucketsBusy, BucketsUnavailable, Reading
from policies.caps import Cap, caps_of
from policies.group import Group
from policies.principal import Principal
from policies.tier import Tier, Window


class Account:
    """``GET /v1/account``: tier, group, balance, allowance, budgets and limits with what is left."""

    def __init__(
        self, identity: Identity, admitter: Admitter, catalog: Callable[[], Catalog], bank: Bank, buckets: Buckets
    ) -> None:
        self._identity = identity
        self._admitter = admitter
        self._catalog = catalog
        self._bank = bank
        self._buckets = buckets

    async def __call__(self, request: Request) -> Response:
        principal = await self._identity.identify(request.scope["headers"], ACCOUNT)
        if isinstance(principal, ServiceKey):
            raise principal.no_user()
        tier, now = self._admitter.tier_of(principal, self._catalog()), datetime.now(UTC)
        try:
            money = await self._money(principal, tier, now)
        except BankUnavailable:
            raise ledger_away() from None
        return _json({**self._who(principal, tier), **money, **await self._limits(principal, tier, now)})

    def _who(self, principal: Principal, tier: Tier) -> dict[str, Any]:
        return {
            "object": "account",
            "id": principal.user_id,
            "email": principal.email,
            "name": principal.name,
            "status": principal.status,
            "tier": tier.name,
            "unlimited": tier.unlimited,
            "upgrade_tier": tier.upgrade_to,
            "upgrade_url": self._admitter.upgrade_url(tier),
            "group": _group(principal.group) if principal.group else None,
        }

    async def _money(self, principal: Principal, tier: Tier, now: datetime) -> dict[str, Any]:
        plan, tokens = money_of(principal, tier), tokens_of(principal, tier)
        balance = await self._bank.balance(principal.wallet_id, plan)
        return {
            "balance": format_usd(balance.available),
            "held": format_usd(balance.held),
            "by_kind": {kind: format_usd(amount) for kind, amount in sorted(balance.by_kind.items())},
            "allowance": await self._tokens(principal, tokens, now) if tokens else _allowance(plan, balance, now),
            "credits": _allowance(plan, balance, now) if tokens else None,
            "budgets": [await self._budget(cap) for cap in caps_of(principal, now)],
        }

    async def _tokens(self, principal: Principal, plan: Plan, now: datetime) -> dict[str, Any]:
        left = await tokens_left(self._bank, principal, plan)
        return {"unit": "tokens", "amount": plan.amount, "left": left, **_period(plan, now)}

    async def _budget(self, cap: Cap) -> dict[str, Any]:
        state = await self._bank.budget(cap.id)
        left = max(0, cap.limit - state.spent - state.held)
        return {
            "of": cap.of,
            "limit": format_usd(cap.limit),
            "left": format_usd(left),
            "resets_at": instant(cap.ends_at),
        }

    async def _limits(self, principal: Principal, tier: Tier, now: datetime) -> dict[str, Any]:
        """What is left; where Redis does not tell, the limits stand without it."""
        windows = tier.windows + (principal.limits.windows if principal.limits else ())
        try:
            reading: Reading | None = await self._buckets.read(
                str(principal.wallet_id), str(principal.user_id), windows
            )
        except (BucketsUnavailable, BucketsBusy):
            reading = None
        levels = reading.levels if reading else [None] * len(windows)
        return {
            "limits": [_limit(window, level, now) for window, level in zip(windows, levels, strict=True)],
            "concurrency": {"limit": tier.concurrency or None, "used": reading.open_calls if reading else None},
        }


class Models:
    """``GET /v1/models`` and ``GET /v1/models/{id}``. A key that forwards users gets the whole catalogue: Open WebUI
    keeps one list for all of them, and refuses the chat of anybody whose model is missing from it."""

    def __init__(self, identity: Identity, admitter: Admitter, catalog: Callable[[], Catalog]) -> None:
        self._identity = identity
        self._admitter = admitter
        self._catalog = catalog

    async def __call__(self, request: Request) -> Response:
        models = await self._granted(request)
        return _json({"object": "list", "data": [self._entry(model) for model in models]})

    async def one(self, request: Request) -> Response:
        wanted = request.path_params["model_id"]
        for model in await self._granted(request):
            if model.id == wanted:
                return _json(self._entry(model))
        raise no_model(wanted)

    async def _granted(self, request: Request) -> tuple[Model, ...]:
        catalog = self._catalog()
        principal = await self._identity.identify_lister(request.scope["headers"])
        if isinstance(principal, ServiceKey):
            # Open WebUI shows every entry as a chat model, so it is told of no others.
            return tuple(catalog.models[name] for name in sorted(catalog.models) if catalog.models[name].kind == "chat")
        models = catalog.models_for(self._admitter.tier_of(principal, catalog))
        limits = principal.limits
        return models if limits is None else tuple(model for model in models if limits.allows_model(model.id))

    def _entry(self, model: Model) -> dict[str, Any]:
        price = self._catalog().price(model.id)
        return {
            "id": model.id,
            "object": "model",
            "created": 0,
            "owned_by": model.upstream,
            "name": model.title or model.id,
            "description": model.description,
            "context_window": model.context,
            "max_output_tokens": model.max_output,
            "pricing": {kind: format_price(pico) for kind, pico in sorted(price.pico.items())} if price else None,
        }


async def refused(request: Request, failure: Exception) -> Response:
    """Any refusal of these routes, as the contract renders it."""
    assert isinstance(failure, Refusal)
    headers = {"retry-after": str(failure.retry_after_s)} if failure.retry_after_s is not None else {}
    request_id = str(uuid7())
    return _json(failure.body(request_id), failure.status, {**headers, "x-request-id": request_id})


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


async def tokens_left(bank: Bank, principal: Principal, plan: Plan) -> int:
    """What is left of the period's tokens. A wallet of tokens is opened by the first call that needs it."""
    if not plan.amount:
        return 0
    try:
        return (await bank.balance(token_wallet_id(principal.wallet_id), plan)).available
    except LookupError:
        return plan.amount


def _group(group: Group) -> dict[str, Any]:
    return {"id": group.id, "name": group.name, "shared": group.shared}


def _allowance(plan: Plan | None, balance: Balance, now: datetime) -> dict[str, Any] | None:
    if plan is None:
        return None
    left = format_usd(balance.by_kind.get("plan", 0))
    return {"unit": "usd", "amount": format_usd(plan.amount), "left": left, **_period(plan, now)}


def _period(plan: Plan, now: datetime) -> dict[str, Any]:
    return {"every": plan.every, "resets_at": instant(bounds(plan, now)[1])}


def _limit(window: Window, level: Any, now: datetime) -> dict[str, Any]:
    shown: Callable[[int], Any] = format_usd if window.of == "cost" else int
    left = None if level is None else shown(max(0, window.limit - level.used))
    resets_at = None
    if level is not None and level.used:
        resets_at = now + timedelta(milliseconds=level.reset_ms)
    return {
        "name": window.name,
        "scope": "key" if window.scope else "tier",
        "of": window.of,
        "seconds": window.seconds,
        "route": window.route,
        "models": window.models or None,
        "limit": shown(window.limit),
        "left": left,
        "resets_at": instant(resets_at),
    }
