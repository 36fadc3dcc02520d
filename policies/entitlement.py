"""Whether a tier grants what a call asks for: model, features, size. Pure, counts nothing: asked first."""

from __future__ import annotations

from collections.abc import Iterable

from policies.decision import Deny
from policies.tier import Tier


def check(
    tier: Tier, model: str, features: Iterable[str] = (), context_tokens: int = 0, asked_output: int | None = None
) -> Deny | None:
    """The first thing the tier does not grant, or None.

    `Deny.limit` names the model, the feature or the cap ("max_context", "max_output") that refused.
    """
    if not tier.allows_model(model):
        return Deny("model_not_allowed", limit=model)
    for feature in features:
        if not tier.allows_feature(feature):
            return Deny("feature_not_allowed", limit=feature)
    return _above("max_context", tier.max_context, context_tokens) or _above(
        "max_output", tier.max_output, asked_output or 0
    )


def _above(name: str, cap: int | None, asked: int) -> Deny | None:
    if cap is None or asked <= cap:
        return None
    return Deny("request_too_large", limit=name, limit_value=cap, needed=asked, available=cap)
