"""What a person reads when the answer is no: one short plain sentence or two, with the wait or the bare upgrade URL.
Pure.

Open WebUI shows the message as it is, in a toast: no markup, no line breaks, nothing clickable; retries and headers are
not shown, so what helps has to stand in the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from gateway.errors import Refusal
from ledger.money import format_usd
from ledger.store import HoldReply, HoldStatus
from policies.decision import Deny, Standing
from policies.tier import Tier

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 2_592_000: "30 days"}
_EVERY = {"day": "daily", "week": "weekly", "month": "monthly", "year": "yearly"}


def denied(deny: Deny, tier: Tier, upgrade_url: str) -> Refusal:
    """The refusal for what a policy denied. Raises KeyError for a code no policy has."""
    message, more = _SAYINGS[deny.code](deny, tier)
    wait = -(-deny.retry_after_ms // 1000) if deny.retry_after_ms else None
    hint = f" Try again in {wait} s." if wait else more.format(url=upgrade_url)
    return Refusal.of(
        deny.code,
        message + hint,
        limit=deny.limit,
        limit_value=deny.limit_value or None,
        used=deny.used or None,
        tier=tier.name,
        upgrade_tier=tier.upgrade_to,
        upgrade_url=upgrade_url,
        retry_after_s=wait,
    )


def without_money(
    reply: HoldReply, needed: int, tier: Tier, upgrade_url: str, period_ends_at: datetime | None
) -> Refusal:
    """The refusal for a wallet that cannot pay: of its own money, or of the period's allowance."""
    if reply.status in (HoldStatus.SUSPENDED, HoldStatus.CLOSED):
        return Refusal.of("account_suspended", "This account is suspended. Please ask your administrator.")
    known: dict[str, Any] = {
        "needed": format_usd(needed),
        "available": format_usd(max(0, reply.available)),
        "tier": tier.name,
        "upgrade_tier": tier.upgrade_to,
        "upgrade_url": upgrade_url,
    }
    if tier.allowance is not None:
        every = _EVERY[tier.allowance.every]
        when = f" It renews on {period_ends_at.astimezone(UTC):%Y-%m-%d}." if period_ends_at else ""
        resets_at = f"{period_ends_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if period_ends_at else None
        left = reply.available
        ended = f"Your {every} allowance is used up."
        if left > 0:
            ended = f"Your {every} allowance has {format_usd(left)} USD left, too little for this request."
        message = f"{ended}{when} Upgrade: {upgrade_url}"
        return Refusal.of("allowance_exhausted", message, limit="allowance", resets_at=resets_at, **known)
    message = (
        f"Your balance of {format_usd(max(0, reply.available))} USD does not cover this request. Top up: {upgrade_url}"
    )
    return Refusal.of("insufficient_balance", message, limit="balance", **known)


def cut(tier: Tier, upgrade_url: str) -> Refusal:
    """The refusal that ends an answer in its middle, because the money ended."""
    ended = "allowance" if tier.allowance else "balance"
    code = "allowance_exhausted" if tier.allowance else "insufficient_balance"
    return Refusal.of(
        code,
        f"The answer stops here: your {ended} is used up. Upgrade: {upgrade_url}",
        limit=ended,
        tier=tier.name,
        upgrade_tier=tier.upgrade_to,
        upgrade_url=upgrade_url,
    )


def lost() -> Refusal:
    """The refusal that ends an answer whose hold the bank gave up, because this process was silent for too long."""
    message = "The answer was interrupted here. Please try again."
    return Refusal.of("ledger_unavailable", message, limit="hold")


def _window(deny: Deny, tier: Tier) -> tuple[str, str]:
    of, seconds = deny.limit.split("/")[:2]
    period = _PERIODS.get(int(seconds), f"{seconds} s")
    limit = f"{format_usd(deny.limit_value)} USD" if of == "cost" else f"{deny.limit_value} {of.replace('_', ' ')}"
    return f"You have reached your limit of {limit} per {period}.", " Upgrade: {url}"


def _concurrent(deny: Deny, tier: Tier) -> tuple[str, str]:
    calls = "answer" if deny.limit_value == 1 else "answers"
    return f"You can have {deny.limit_value} {calls} running at a time; please wait for one to end.", ""


def _model(deny: Deny, tier: Tier) -> tuple[str, str]:
    return f"The model {deny.limit} is not part of your plan ({tier.title or tier.name}).", " Upgrade: {url}"


def _feature(deny: Deny, tier: Tier) -> tuple[str, str]:
    feature = deny.limit.replace("_", " ")
    return f"Using {feature} is not part of your plan ({tier.title or tier.name}).", " Upgrade: {url}"


def _large(deny: Deny, tier: Tier) -> tuple[str, str]:
    what = "answer" if deny.limit == "max_output" else "conversation"
    return (
        f"The {what} may be at most {deny.limit_value} tokens long on your plan; this one asks for {deny.needed}.",
        "",
    )


def _repeated(deny: Deny, tier: Tier) -> tuple[str, str]:
    return f"This Idempotency-Key was already used by request {deny.limit}.", ""


def _no_limiter(deny: Deny, tier: Tier) -> tuple[str, str]:
    return "Limits cannot be checked right now.", ""


_SAYINGS: dict[str, Callable[[Deny, Tier], tuple[str, str]]] = {
    "rate_limit_requests": _window,
    "rate_limit_tokens": _window,
    "rate_limit_cost": _window,
    "too_many_concurrent": _concurrent,
    "model_not_allowed": _model,
    "feature_not_allowed": _feature,
    "request_too_large": _large,
    "idempotency_conflict": _repeated,
    "limiter_unavailable": _no_limiter,
}


def standing_headers(standings: Iterable[Standing]) -> list[tuple[bytes, bytes]]:
    """``x-ratelimit-…`` as OpenAI spells them, for requests and for tokens (of several token windows the strictest)."""
    headers: list[tuple[bytes, bytes]] = []
    strictest: dict[str, Standing] = {}
    for standing in standings:
        kind = "tokens" if standing.of.endswith("tokens") else standing.of
        known = strictest.get(kind)
        if kind in ("requests", "tokens") and (known is None or standing.remaining < known.remaining):
            strictest[kind] = standing
    for kind, standing in strictest.items():
        headers += [
            (f"x-ratelimit-limit-{kind}".encode(), b"%d" % standing.limit),
            (f"x-ratelimit-remaining-{kind}".encode(), b"%d" % standing.remaining),
            (f"x-ratelimit-reset-{kind}".encode(), b"%ds" % -(-standing.reset_ms // 1000)),
        ]
    return headers
