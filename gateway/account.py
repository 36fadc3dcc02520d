"""What a caller may read without spending: its own account, and the models its tier grants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from config.catalog import Catalog, Model
from gateway.admission import Admitter, ledger_away, plan_of
from gateway.errors import Refusal
from gateway.identity import Identity, ServiceKey
from ledger.ids import uuid7
from ledger.money import format_price, format_usd
from ledger.store import Balance, Bank, BankUnavailable
from policies.buckets import Buckets, BucketsBusy, BucketsUnavailable, Reading
from policies.principal import Principal
from policies.tier import Tier, Window

_SHOWN = 100  # characters of the caller's own words in a sentence


class Account:
    """``GET /v1/account``: tier, balance, allowance, limits with what is left."""

    def __init__(
        self, identity: Identity, admitter: Admitter, catalog: Callable[[], Catalog], bank: Bank, buckets: Buckets
    ) -> None:
        self._identity = identity
        self._admitter = admitter
        self._catalog = catalog
        self._bank = bank
        self._buckets = buckets

    async def __call__(self, request: Request) -> Response:
        principal = await self._identity.identify(request.scope["headers"])
        if isinstance(principal, ServiceKey):
            raise principal.no_user()
        tier = self._admitter.tier_of(principal, self._catalog())
        try:
            balance = await self._bank.balance(principal.wallet_id, plan_of(tier))
        except BankUnavailable:
            raise ledger_away() from None
        return _json(self._body(principal, tier, balance, await self._limits(principal, tier)))

    def _body(self, principal: Principal, tier: Tier, balance: Balance, limits: dict[str, Any]) -> dict[str, Any]:
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
            "balance": format_usd(balance.available),
            "held": format_usd(balance.held),
            "by_kind": {kind: format_usd(amount) for kind, amount in sorted(balance.by_kind.items())},
            "allowance": _allowance(tier, balance),
            **limits,
        }

    async def _limits(self, principal: Principal, tier: Tier) -> dict[str, Any]:
        """What is left; where Redis does not tell, the limits stand without it."""
        windows = tier.windows
        try:
            reading: Reading | None = await self._buckets.read(
                str(principal.wallet_id), str(principal.user_id), windows
            )
        except (BucketsUnavailable, BucketsBusy):
            reading = None
        levels = reading.levels if reading else [None] * len(windows)
        return {
            "limits": [_limit(window, level) for window, level in zip(windows, levels, strict=True)],
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
        raise Refusal.of("model_not_found", f"There is no model called {wanted[:_SHOWN]!r} here.", param="model")

    async def _granted(self, request: Request) -> tuple[Model, ...]:
        catalog = self._catalog()
        principal = await self._identity.identify_lister(request.scope["headers"])
        if isinstance(principal, ServiceKey):
            # Open WebUI shows every entry as a chat model, so it is told of no others.
            return tuple(catalog.models[name] for name in sorted(catalog.models) if catalog.models[name].kind == "chat")
        return catalog.models_for(self._admitter.tier_of(principal, catalog))

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


def _allowance(tier: Tier, balance: Balance) -> dict[str, Any] | None:
    if tier.allowance is None:
        return None
    ends = balance.period_ends_at
    return {
        "amount": format_usd(tier.allowance.amount),
        "left": format_usd(balance.by_kind.get("plan", 0)),
        "every": tier.allowance.every,
        "resets_at": f"{ends.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if ends else None,
    }


def _limit(window: Window, level: Any) -> dict[str, Any]:
    shown: Callable[[int], Any] = format_usd if window.of == "cost" else int
    left = None if level is None else shown(max(0, window.limit - level.used))
    resets_at = None
    if level is not None and level.used:
        resets_at = datetime.fromtimestamp(datetime.now(UTC).timestamp() + level.reset_ms / 1000, UTC)
    return {
        "name": window.name,
        "of": window.of,
        "seconds": window.seconds,
        "route": window.route,
        "models": window.models or None,
        "limit": shown(window.limit),
        "left": left,
        "resets_at": f"{resets_at:%Y-%m-%dT%H:%M:%SZ}" if resets_at else None,
    }
