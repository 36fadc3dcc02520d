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
from ledger.period import Plan
from policies.caps import Cap
from policies.decision import Deny, Standing
from policies.tier import Tier

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 2_592_000: "30 days"}
_EVERY = {"day": "daily", "week": "weekly", "month": "monthly", "year": "yearly"}
_MENDED_S = 300  # what an operator has to mend is not mended in seconds


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
    available: int, needed: int, tier: Tier, upgrade_url: str, plan: Plan | None, ends: datetime | None
) -> Refusal:
    """The refusal for a wallet that cannot pay: of its own money, or of what ``plan`` gives until ``ends``."""
    left = format_usd(max(0, available))
    known: dict[str, Any] = {"needed": format_usd(needed), "available": left, **_more(tier, upgrade_url)}
    if plan is None:
        message = f"Your balance of {left} USD does not cover this request. Top up: {upgrade_url}"
        return Refusal.of("insufficient_balance", message, limit="balance", **known)
    every = _EVERY[plan.every]
    ended = f"Your {every} allowance is used up."
    if available > 0:
        ended = f"Your {every} allowance has {left} USD left, too little for this request."
    message = f"{ended}{_renews(ends)} Upgrade: {upgrade_url}"
    return Refusal.of("allowance_exhausted", message, limit="allowance", resets_at=instant(ends), **known)


def without_tokens(plan: Plan, left: int, needed: int, tier: Tier, upgrade_url: str, ends: datetime) -> Refusal:
    """The refusal for somebody whose tokens are used up, and who has no money that would do."""
    known = {"tokens_needed": needed, "tokens_left": left, "limit_value": plan.amount, **_more(tier, upgrade_url)}
    if not plan.amount:
        message = f"Your plan ({tier.title or tier.name}) includes no tokens. Upgrade: {upgrade_url}"
        return Refusal.of("allowance_exhausted", message, limit="allowance", **known)
    given = f"{_EVERY[plan.every]} allowance of {plan.amount} tokens"
    ended = f"Your {given} is used up."
    if left > 0:
        ended = f"Your {given} has {left} left, too few for this request."
    message = f"{ended}{_renews(ends)} Upgrade: {upgrade_url}"
    return Refusal.of("allowance_exhausted", message, limit="allowance", resets_at=instant(ends), **known)


def capped(cap: Cap, left: int, needed: int, tier: Tier) -> Refusal:
    """The refusal for a budget that is used up, whatever the wallet holds."""
    budget = f"{_WHOSE[cap.of]} of {format_usd(cap.limit)} USD"
    ended = f"{budget} is used up."
    if left > 0:
        ended = f"{budget} has {format_usd(left)} USD left, too little for this request."
    anew = f" It starts anew on {cap.ends_at.astimezone(UTC):%Y-%m-%d}." if cap.ends_at else ""
    return Refusal.of(
        "allowance_exhausted",
        ended + anew,
        limit=f"{cap.of}_budget",
        limit_value=format_usd(cap.limit),
        needed=format_usd(needed),
        available=format_usd(max(0, left)),
        tier=tier.name,
        resets_at=instant(cap.ends_at),
    )


def cut(tier: Tier, upgrade_url: str, ended: str, cap: Cap | None = None) -> Refusal:
    """The refusal that ends an answer in its middle, because what pays for it ended: tokens, allowance or balance, or a
    budget."""
    if cap is not None:
        message = f"The answer stops here: {_WHOSE[cap.of][0].lower()}{_WHOSE[cap.of][1:]} is used up."
        resets_at = instant(cap.ends_at)
        return Refusal.of("allowance_exhausted", message, limit=f"{cap.of}_budget", tier=tier.name, resets_at=resets_at)
    code = "insufficient_balance" if ended == "balance" else "allowance_exhausted"
    are = "are" if ended == "tokens" else "is"
    message = f"The answer stops here: your {ended} {are} used up. Upgrade: {upgrade_url}"
    limit = "allowance" if ended == "tokens" else ended
    return Refusal.of(code, message, limit=limit, **_more(tier, upgrade_url))


def suspended() -> Refusal:
    """The refusal of a wallet that may not be spent from."""
    return Refusal.of("account_suspended", "This account is suspended. Please ask your administrator.")


def not_with_this_key(model: str, tier: Tier) -> Refusal:
    """The refusal of a model that the tier grants and the key does not."""
    return Refusal.of("model_not_allowed", f"This key does not allow the model {model}.", limit=model, tier=tier.name)


def no_tier() -> Refusal:
    """The refusal where the catalogue has neither the caller's tier nor the default one."""
    message = "No plan is set up here yet. Please ask your administrator."
    return Refusal.of("price_missing", message, retry_after_s=_MENDED_S)


def instant(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None


def per(of: str, seconds: int) -> str:
    """What a window counts, and in which time."""
    unit = "USD" if of == "cost" else of.replace("_", " ")
    return f"{unit} per {_PERIODS.get(seconds, f'{seconds} s')}"


_WHOSE = {"key": "This key's budget", "member": "Your group's budget for each member"}


def _more(tier: Tier, upgrade_url: str) -> dict[str, Any]:
    return {"tier": tier.name, "upgrade_tier": tier.upgrade_to, "upgrade_url": upgrade_url}


def _renews(ends: datetime | None) -> str:
    return f" It renews on {ends.astimezone(UTC):%Y-%m-%d}." if ends else ""


def lost() -> Refusal:
    """The refusal that ends an answer whose hold the bank gave up, because this process was silent for too long."""
    message = "The answer was interrupted here. Please try again."
    return Refusal.of("ledger_unavailable", message, limit="hold")


def _window(deny: Deny, tier: Tier) -> tuple[str, str]:
    of_key = deny.limit.startswith("key:")
    of, seconds = deny.limit.split("/")[of_key : of_key + 2]
    value = format_usd(deny.limit_value) if of == "cost" else str(deny.limit_value)
    limit = f"{value} {per(of, int(seconds))}"
    if of_key:
        return f"This key has reached its limit of {limit}.", ""
    return f"You have reached your limit of {limit}.", " Upgrade: {url}"


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
