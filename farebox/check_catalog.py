"""The doctor's look at a catalogue: what in it is refused, leads nowhere, or never applies. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from config.catalog import Declared, Model, complaints
from config.shipped import shipped_tiers
from farebox.findings import Found
from policies.tier import Tier, matches

_AREA = "catalogue"


def look_at_catalog(catalog: Declared, default_tier: str) -> Iterator[Found]:
    """Everything that is to be said of what is offered."""
    counted = f"{len(catalog.upstreams)} upstreams, {len(catalog.models)} models, {len(catalog.tiers)} tiers"
    yield Found(_AREA, "offered", "ok" if catalog.models else "warning", counted)
    yield from (Found(_AREA, each.where, "error", each.what) for each in complaints(catalog))
    yield from _models(catalog)
    yield from _tiers(catalog, default_tier)


def _models(catalog: Declared) -> Iterator[Found]:
    used = {model.upstream for model in catalog.models}
    for upstream in catalog.upstreams:
        if upstream.name not in used:
            yield Found(_AREA, f"upstream {upstream.name}", "note", "serves no model")
    for model in catalog.models:
        if model.id not in catalog.rates:
            yield Found(_AREA, f"model {model.id}", "warning", "has no price, so calls to it are refused")
        yield from _fallback(catalog, model)


def _fallback(catalog: Declared, model: Model) -> Iterator[Found]:
    """A fallback that never answers. One that is not there is told by ``complaints``."""
    other = next((each for each in catalog.models if each.id == model.fallback), None)
    if other is None:
        return
    if other.kind != model.kind:
        said = f"its fallback {other.id} is for {other.kind}, and it is for {model.kind}"
    elif other.id not in catalog.rates:
        said = f"its fallback {other.id} has no price"
    elif other.upstream == model.upstream:
        said = f"its fallback {other.id} has the same backend, and fails with it"
    else:
        return
    yield Found(_AREA, f"model {model.id}", "warning", said)


def _tiers(catalog: Declared, default_tier: str) -> Iterator[Found]:
    tiers = {tier.name: tier for tier in catalog.tiers}
    if default_tier not in tiers:
        said = f"is not offered: users seen for the first time cannot call; offered are {', '.join(tiers)}"
        yield Found(_AREA, f"default tier {default_tier}", "error", said)
    elif tiers == {tier.name: tier for tier in shipped_tiers()}:
        yield Found(_AREA, "tiers", "note", "nobody declared any: these are the ones that Farebox brings along")
    for tier in catalog.tiers:
        yield from _patterns(catalog, tier)
        if (ring := _ring(tiers, tier)) and tier.name == min(ring):
            yield Found(_AREA, f"tier {tier.name}", "warning", f"its upgrades go in a circle: {' → '.join(ring)}")


def _patterns(catalog: Declared, tier: Tier) -> Iterator[Found]:
    if not catalog.models:
        return
    ids = [model.id for model in catalog.models]
    if not any(tier.allows_model(name) for name in ids):
        yield Found(_AREA, f"tier {tier.name}", "warning", "grants no model that is offered")
        return
    windows = (pattern for window in tier.windows for pattern in window.models)
    for pattern in dict.fromkeys((*tier.models, *windows)):
        if not _matches_any(pattern, ids):
            yield Found(_AREA, f"tier {tier.name}", "warning", f"no model is called {pattern}")


def _matches_any(pattern: str, ids: Iterable[str]) -> bool:
    return any(matches((pattern,), name) for name in ids)


def _ring(tiers: dict[str, Tier], tier: Tier) -> list[str]:
    """The tiers through which the upgrades lead back to this one; empty where they do not."""
    steps = [tier.name]
    while (following := tiers.get(tiers[steps[-1]].upgrade_to or "")) is not None:
        if following is tier:
            return steps
        if following.name in steps:
            break
        steps.append(following.name)
    return []
