"""What a person is told when the answer is no: which sentence, with what in it, and the refusal that carries it. Pure.

Open WebUI shows the message as it is, in a toast: no markup, no line breaks, nothing clickable; retries and headers are
not shown, so what helps (the wait, or the bare upgrade URL) has to stand in the words. Those are made elsewhere
(``language.py``), by the key a sentence is given here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, get_args

from gateway.errors import Refusal
from gateway.language import Link, Pace, Sentence, Usd, Wait, Word, sentence
from ledger.money import format_usd
from ledger.period import Plan
from policies.caps import Cap
from policies.decision import Deny, Standing
from policies.tier import Of, Tier

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 2_592_000: "30 days"}
_COUNTED = frozenset(get_args(Of))
_MENDED_S = 300  # what an operator has to mend is not mended in seconds


def denied(deny: Deny, tier: Tier, upgrade_url: str) -> Refusal:
    """The refusal for what a policy denied. Raises KeyError for a code no policy has."""
    wait = -(-deny.retry_after_ms // 1000) if deny.retry_after_ms else None
    return Refusal.of(
        deny.code,
        _SAYINGS[deny.code](deny, tier, wait, Link(upgrade_url)),
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
    left, url = max(0, available), Link(upgrade_url)
    known: dict[str, Any] = {"needed": format_usd(needed), "available": format_usd(left), **_more(tier, upgrade_url)}
    if plan is None or ends is None:
        said = sentence("balance_short", balance=Usd(left), url=url)
        return Refusal.of("insufficient_balance", said, limit="balance", **known)
    every = Word("every", plan.every)
    said = sentence("allowance_used", every=every, date=ends, url=url)
    if left:
        said = sentence("allowance_short", every=every, left=Usd(left), date=ends, url=url)
    return Refusal.of("allowance_exhausted", said, limit="allowance", resets_at=instant(ends), **known)


def without_tokens(plan: Plan, left: int, needed: int, tier: Tier, upgrade_url: str, ends: datetime) -> Refusal:
    """The refusal for somebody whose tokens are used up, and who has no money that would do."""
    known = {"tokens_needed": needed, "tokens_left": left, "limit_value": plan.amount, **_more(tier, upgrade_url)}
    url = Link(upgrade_url)
    if not plan.amount:
        said = sentence("tokens_none", plan=_plan(tier), url=url)
        return Refusal.of("allowance_exhausted", said, limit="allowance", **known)
    given = {"every": Word("every", plan.every), "amount": plan.amount, "date": ends, "url": url}
    said = sentence("tokens_short", left=left, **given) if left > 0 else sentence("tokens_used", **given)
    return Refusal.of("allowance_exhausted", said, limit="allowance", resets_at=instant(ends), **known)


def capped(cap: Cap, left: int, needed: int, tier: Tier) -> Refusal:
    """The refusal for a budget that is used up, whatever the wallet holds."""
    key = f"{cap.of}_budget_{'short' if left > 0 else 'used'}{'_until' if cap.ends_at else ''}"
    values: dict[str, Any] = {"limit": Usd(cap.limit)}
    if left > 0:
        values["left"] = Usd(left)
    if cap.ends_at:
        values["date"] = cap.ends_at
    return Refusal.of(
        "allowance_exhausted",
        Sentence(key, values),
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
        said, limit = sentence(f"cut_{cap.of}_budget"), f"{cap.of}_budget"
        return Refusal.of("allowance_exhausted", said, limit=limit, tier=tier.name, resets_at=instant(cap.ends_at))
    code = "insufficient_balance" if ended == "balance" else "allowance_exhausted"
    said = sentence(f"cut_{ended}", url=Link(upgrade_url))
    return Refusal.of(code, said, limit="allowance" if ended == "tokens" else ended, **_more(tier, upgrade_url))


def suspended() -> Refusal:
    """The refusal of a wallet that may not be spent from."""
    return Refusal.of("account_suspended", sentence("account_suspended"))


def not_with_this_key(model: str, tier: Tier) -> Refusal:
    """The refusal of a model that the tier grants and the key does not."""
    return Refusal.of("model_not_allowed", sentence("key_without_model", model=model), limit=model, tier=tier.name)


def no_tier() -> Refusal:
    """The refusal where the catalogue has neither the caller's tier nor the default one."""
    return Refusal.of("price_missing", sentence("no_tier"), retry_after_s=_MENDED_S)


def no_model_granted(tier: Tier, upgrade_url: str) -> Refusal:
    """The refusal of somebody whose tier grants no model at all."""
    said = sentence("no_model_granted", plan=_plan(tier), url=Link(upgrade_url))
    return Refusal.of("model_not_allowed", said, **_more(tier, upgrade_url))


def lost() -> Refusal:
    """The refusal that ends an answer whose hold the bank gave up, because this process was silent for too long."""
    return Refusal.of("ledger_unavailable", sentence("interrupted"), limit="hold")


def waiting(code: str, key: str, seconds: int, **details: Any) -> Refusal:
    """A refusal that helps nobody but by its wait."""
    return Refusal.of(code, sentence(key, wait=Wait(seconds)), retry_after_s=seconds, **details)


def instant(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None


def per(of: str, seconds: int) -> str:
    """What a window counts, and in which time."""
    unit = "USD" if of == "cost" else of.replace("_", " ")
    return f"{unit} per {_PERIODS.get(seconds, f'{seconds} s')}"


def _more(tier: Tier, upgrade_url: str) -> dict[str, Any]:
    return {"tier": tier.name, "upgrade_tier": tier.upgrade_to, "upgrade_url": upgrade_url}


def _plan(tier: Tier) -> str:
    return tier.title or tier.name


_SOON_S = 1
_LANES = ("tasks", "embeddings")


def _window(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    scope, of, seconds = _named(deny.limit)
    pace = Pace(deny.limit_value, of, seconds)
    if scope.startswith("key:"):
        return sentence("key_rate_wait", pace=pace, wait=Wait(wait)) if wait else sentence("key_rate", pace=pace)
    lane = f"{scope}_" if scope in _LANES else ""
    if wait:
        return sentence(f"{lane}rate_wait", pace=pace, wait=Wait(wait))
    return sentence(f"{lane}rate_upgrade", pace=pace, url=url)


def _named(window: str) -> tuple[str, str, int]:
    """What a window's name says: its scope, what it counts, its seconds."""
    first, *rest = window.split("/")
    scope, of, seconds = (first, *rest[:2]) if rest[0] in _COUNTED else ("", first, rest[0])
    return scope, of, int(seconds)


def _concurrent(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    lane = deny.limit.partition("/")[0]
    one = "_one" if deny.limit_value == 1 else ""
    key = f"concurrent_{lane}" if lane in _LANES else f"concurrent{one}"
    return sentence(key, limit=deny.limit_value, wait=Wait(wait or _SOON_S))


def _model(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    return sentence("model_not_allowed", model=deny.limit, plan=_plan(tier), url=url)


def _feature(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    return sentence("feature_not_allowed", feature=Word("features", deny.limit), plan=_plan(tier), url=url)


def _large(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    key = "answer_too_long" if deny.limit == "max_output" else "conversation_too_long"
    return sentence(key, limit=deny.limit_value, asked=deny.needed)


def _repeated(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    return sentence("key_reused", request=deny.limit)


def _no_limiter(deny: Deny, tier: Tier, wait: int | None, url: Link) -> Sentence:
    return sentence("limits_unknown", wait=Wait(wait or _SOON_S))


_SAYINGS: dict[str, Callable[[Deny, Tier, int | None, Link], Sentence]] = {
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


_RATE_LIMIT = {
    kind: (b"x-ratelimit-limit-" + word, b"x-ratelimit-remaining-" + word, b"x-ratelimit-reset-" + word)
    for kind, word in (("requests", b"requests"), ("tokens", b"tokens"))
}


def standing_headers(standings: Iterable[Standing]) -> list[tuple[bytes, bytes]]:
    """``x-ratelimit-…`` as OpenAI spells them, for requests and for tokens."""
    headers: list[tuple[bytes, bytes]] = []
    for standing in standings:
        limit, remaining, reset = _RATE_LIMIT[standing.kind]
        headers += [
            (limit, b"%d" % standing.limit),
            (remaining, b"%d" % standing.remaining),
            (reset, b"%ds" % -(-standing.reset_ms // 1000)),
        ]
    return headers
