"""What a caller may read of its own account without spending."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from accounts.keys import ACCOUNT
from config.catalog import Catalog
from config.catalog_fields import factor_text
from gateway.admission import Admitter, ledger_away
from gateway.errors import Refusal
from gateway.identity import Identity, ServiceKey
from gateway.links import Links
from gateway.purse import money_of, tokens_of
from gateway.sentences import instant
from gateway.voice import Voice
from ledger.ids import uuid7
from ledger.money import format_usd
from ledger.period import Plan, bounds
from ledger.store import Balance, Bank, BankUnavailable
from ledger.wallet import token_wallet_id
from policies.buckets import Buckets, BucketsBusy, BucketsUnavailable, Reading
from policies.caps import Cap, caps_of, task_cap
from policies.group import Group
from policies.lanes import LANES, beside, concurrency, lane_of_window
from policies.principal import Principal
from policies.task import TaskRule
from policies.tier import Tier, Window

_ENGLISH = Voice()


class Account:
    """``GET /v1/account``: tier, group, balance, allowance, budgets and limits with what is left."""

    def __init__(
        self,
        identity: Identity,
        admitter: Admitter,
        catalog: Callable[[], Catalog],
        bank: Bank,
        buckets: Buckets,
        links: Links | None = None,
    ) -> None:
        self._identity = identity
        self._admitter = admitter
        self._catalog = catalog
        self._bank = bank
        self._buckets = buckets
        self._links = links

    async def __call__(self, request: Request) -> Response:
        principal = await self._identity.identify(request.scope["headers"], ACCOUNT)
        if isinstance(principal, ServiceKey):
            raise principal.no_user()
        state = await self.state(principal)
        if self._links is not None and not principal.acted_by:
            state["account_url"] = self._links.account(principal.user_id)
        return _json(state)

    async def state(self, principal: Principal) -> dict[str, Any]:
        """Who, what is left, and until when. Raises Refusal where the bank does not answer."""
        tier, now = self._admitter.tier_of(principal, self._catalog()), datetime.now(UTC)
        try:
            money = await self._money(principal, tier, now)
        except BankUnavailable:
            raise ledger_away() from None
        return {**self._who(principal, tier), **money, **await self._limits(principal, tier, now)}

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
            "budgets": [
                await self._budget(cap) for cap in (*caps_of(principal, now), *self._task_caps(principal, now))
            ],
            "tasks": [_task(rule) for rule in self._catalog().tasks.values()],
        }

    async def _tokens(self, principal: Principal, plan: Plan, now: datetime) -> dict[str, Any]:
        left = await tokens_left(self._bank, principal, plan)
        return {"unit": "tokens", "amount": plan.amount, "left": left, **_period(plan, now)}

    def _task_caps(self, principal: Principal, now: datetime) -> list[Cap]:
        """What the house pays for this caller's tasks, each rule for itself."""
        found = (task_cap(rule, principal.user_id, now) for rule in self._catalog().tasks.values())
        return [cap for cap in found if cap is not None]

    async def _budget(self, cap: Cap) -> dict[str, Any]:
        state = await self._bank.budget(cap.id)
        left = max(0, cap.limit - state.spent - state.held)
        return {
            "of": cap.of,
            "task": cap.task or None,
            "limit": format_usd(cap.limit),
            "left": format_usd(left),
            "resets_at": instant(cap.ends_at),
        }

    async def _limits(self, principal: Principal, tier: Tier, now: datetime) -> dict[str, Any]:
        """What is left; where Redis does not tell, the limits stand without it."""
        of_key = principal.limits.windows if principal.limits else ()
        own = tier.windows + of_key
        windows = own + beside(tier, tier.windows) + beside(tier, of_key)
        try:
            reading: Reading | None = await self._buckets.read(
                str(principal.wallet_id), str(principal.user_id), windows
            )
        except (BucketsUnavailable, BucketsBusy):
            reading = None
        levels = reading.levels if reading else [None] * len(windows)
        shown = [_limit(window, level, now) for window, level in zip(windows, levels, strict=True)]
        return {
            "limits": shown[: len(own)],
            "limits_beside": shown[len(own) :],
            "concurrency": {"limit": tier.concurrency or None, "used": reading.open_calls if reading else None},
            "concurrency_beside": {lane: concurrency(tier, lane) or None for lane in LANES[1:]},
        }


async def refused(request: Request, failure: Exception) -> Response:
    """Any refusal of these routes, as the contract renders it, in the house's own language."""
    assert isinstance(failure, Refusal)
    getattr(request.app.state, "voice", _ENGLISH).put(failure)
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


def _task(rule: TaskRule) -> dict[str, Any]:
    return {"name": rule.name, "pays": rule.pays, "factor": factor_text(rule.factor_ppm), "model": rule.model}


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
        "scope": "key" if window.scope.startswith("key:") else "tier",
        "lane": lane_of_window(window),
        "of": window.of,
        "seconds": window.seconds,
        "route": window.route,
        "models": window.models or None,
        "limit": shown(window.limit),
        "left": left,
        "resets_at": instant(resets_at),
    }
