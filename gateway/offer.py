"""What is offered, for everybody to read: models with their prices, and tiers with what they give. Pure.

Only what the catalogue lists is here: no retired tier, no model without a price, nothing of backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from config.catalog import Catalog, Model
from config.catalog_fields import factor_text
from gateway.language import Count, Language, Pace, Usd
from ledger.money import format_price, format_unit_price, format_usd
from ledger.price import PPM, Price, Rates
from ledger.usage import KINDS
from policies.tier import Tier, Window

PER_UNIT = frozenset(("web_searches", "images", "seconds"))
"""What is priced for ONE; everything else per 1M."""
_MONTHS = {"month": 1, "year": 12}


def ladder(catalog: Catalog) -> tuple[Tier, ...]:
    """The listed tiers, the lowest first: by what they cost a month, then by how many more lead up from them."""
    listed = [tier for tier in catalog.tiers.values() if tier.listed and tier.name not in catalog.retired_tiers]
    return tuple(sorted(listed, key=lambda tier: (_monthly(tier), -len(_above(catalog, tier)), tier.name)))


def lowest(tiers: Iterable[Tier], model_id: str) -> Tier | None:
    """Of these tiers, lowest first, the first that grants the model."""
    return next((tier for tier in tiers if tier.allows_model(model_id)), None)


def listed_models(catalog: Catalog) -> tuple[Model, ...]:
    """The models anybody may see, by id: those that are listed, have a price and, if they chat, are found by people
    where they chat."""
    models = (catalog.models[name] for name in sorted(catalog.models))
    return tuple(model for model in models if model.listed and catalog.price(model.id) and _found(catalog, model))


def _found(catalog: Catalog, model: Model) -> bool:
    return model.kind != "chat" or catalog.shown is None or model.id in catalog.shown


def offer(catalog: Catalog, language: Language) -> dict[str, Any]:
    """The public price list as a document."""
    tiers, models = ladder(catalog), listed_models(catalog)
    return {
        "object": "pricing",
        "currency": "USD",
        "revision": catalog.revision,
        "language": language.code,
        "models": [_model(catalog, tiers, model, language) for model in models],
        "tiers": [_tier(tier, models, language) for tier in tiers],
    }


def prices_of(pico: dict[str, int]) -> dict[str, str]:
    """Prices by kind as decimal text: per 1M, or for ONE where that is how it is sold."""
    return {kind: _price(kind, pico[kind]) for kind in KINDS if kind in pico}


def price_words(price: Price, language: Language) -> list[str]:
    """A model's price, a line for each kind."""
    lines = [_kind_words(kind, price.pico[kind], language) for kind in KINDS if kind in price.pico]
    if price.per_request:
        lines.append(language.words("per_call", price=format_usd(price.per_request)))
    if price.long_context is not None:
        step = price.long_context
        dearer = " · ".join(_kind_words(kind, step.pico[kind], language) for kind in KINDS if kind in step.pico)
        lines.append(language.words("above", limit=step.above, price=dearer))
    return lines


def limit_words(tier: Tier, language: Language) -> list[str]:
    """How fast and how long a tier lets its members go, a line for each limit."""
    return list(_limit_words(tier, language))


def included_words(tier: Tier, language: Language) -> str:
    """What a tier gives each period."""
    allowance = tier.allowance
    if tier.unlimited:
        return language.words("gives_everything")
    if allowance is None or not allowance.amount:
        return language.words("gives_nothing")
    amount = Usd(allowance.amount) if allowance.unit == "usd" else Count(allowance.amount)
    return language.words(f"gives_{allowance.every}", amount=amount)


def tier_price_words(tier: Tier, language: Language) -> str:
    """What a tier costs."""
    if not tier.price:
        return language.words("free_of_charge")
    return language.words(f"per_{tier.price_every}", price=Usd(tier.price))


def _model(catalog: Catalog, tiers: tuple[Tier, ...], model: Model, language: Language) -> dict[str, Any]:
    price = catalog.prices[model.id]
    first = lowest(tiers, model.id)
    return {
        "id": model.id,
        "name": model.title or model.id,
        "description": model.description,
        "kind": model.kind,
        "context_window": model.context,
        "max_output_tokens": model.max_output,
        "tier": first.name if first else None,
        "tiers": [tier.name for tier in tiers if tier.allows_model(model.id)],
        **_rates(price.rates),
        "in_words": price_words(price, language),
    }


def _rates(rates: Rates) -> dict[str, Any]:
    step = rates.long_context
    return {
        "pricing": prices_of(rates.pico),
        "per_request": format_usd(rates.per_request),
        "long_context": {"above": step.above, "pricing": prices_of(step.pico)} if step else None,
        "variants": {name: prices_of(rates.variants[name]) for name in sorted(rates.variants)},
    }


def _tier(tier: Tier, models: tuple[Model, ...], language: Language) -> dict[str, Any]:
    given = tier.allowance
    amount = None if given is None else format_usd(given.amount) if given.unit == "usd" else given.amount
    return {
        "name": tier.name,
        "title": tier.title or tier.name,
        "price": format_usd(tier.price),
        "price_every": tier.price_every,
        "allowance": None if given is None else {"unit": given.unit, "amount": amount, "every": given.every},
        "factor": factor_text(tier.markup_ppm),
        "models": [model.id for model in models if tier.allows_model(model.id)],
        "features": list(tier.features),
        "concurrency": tier.concurrency or None,
        "max_output": tier.max_output,
        "max_context": tier.max_context,
        "limits": limit_words(tier, language),
        "upgrade_to": tier.upgrade_to,
    }


def _limit_words(tier: Tier, language: Language) -> Iterator[str]:
    for window in tier.windows:
        yield window_words(window, language)
    if tier.concurrency:
        yield language.words("at_once", limit=tier.concurrency)
    if tier.max_output:
        yield language.words("longest_answer", limit=tier.max_output)
    if tier.max_context:
        yield language.words("longest_context", limit=tier.max_context)
    if tier.markup_ppm != PPM:
        yield language.words("factor", factor=factor_text(tier.markup_ppm))


def window_words(window: Window, language: Language) -> str:
    """One window, with the route or the models it is for."""
    pace = Pace(window.limit, window.of, window.seconds)
    only = ", ".join((*((window.route,) if window.route else ()), *window.models))
    return language.words("on_route", pace=pace, route=only) if only else language.text(pace)


def _kind_words(kind: str, pico: int, language: Language) -> str:
    how = "per_unit" if kind in PER_UNIT else "per_million"
    return f"{language.words(f'unit_{kind}')}: {language.words(how, price=_price(kind, pico))}"


def _price(kind: str, pico: int) -> str:
    return format_unit_price(pico) if kind in PER_UNIT else format_price(pico)


def _monthly(tier: Tier) -> int:
    return tier.price // _MONTHS[tier.price_every]


def _above(catalog: Catalog, tier: Tier) -> set[str]:
    """The tiers to which this one leads."""
    found: set[str] = set()
    name = tier.upgrade_to
    while name and name not in found and (above := catalog.tier(name)) is not None:
        found.add(name)
        name = above.upgrade_to
    return found
