"""The price list as a page: the tiers, then the models by what they do. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from config.catalog import Catalog, Model
from gateway.language import Language
from gateway.offer import (
    included_words,
    ladder,
    limit_words,
    listed_models,
    lowest,
    price_words,
    tier_price_words,
)
from gateway.page import Html, document, el, lines, table
from policies.tier import Tier


def pricing_page(catalog: Catalog, language: Language) -> bytes:
    """The page in one language."""
    tiers, models = ladder(catalog), listed_models(catalog)
    words = language.words
    body = [el("p", words("prices_intro"), class_="soft")]
    if tiers:
        body += [el("h2", words("plans")), tiers_table(tiers, models, language)]
    for kind in dict.fromkeys(model.kind for model in models):
        of_kind = [model for model in models if model.kind == kind]
        body += [el("h2", words(f"kind_{kind}")), _models_table(catalog, tiers, of_kind, language)]
    return document(language, words("prices"), *body)


def tiers_table(tiers: tuple[Tier, ...], models: tuple[Model, ...], language: Language, current: str = "") -> Html:
    """The tiers side by side, with which of ``models`` each grants; ``current`` is the reader's own."""
    columns = ("plan", "price", "included", "limits", *(("models",) if models else ()))
    heads = [language.words(key) for key in columns]
    rows = (_tier_row(tier, models, language, tier.name == current) for tier in tiers)
    return table(heads, rows, stacks=True)


def _tier_row(tier: Tier, models: tuple[Model, ...], language: Language, own: bool) -> Iterator[str]:
    title = el("bdi", tier.title or tier.name)
    yield el("td", el("strong", title), class_="now") if own else el("td", el("strong", title))
    yield tier_price_words(tier, language)
    yield included_words(tier, language)
    yield lines(limit_words(tier, language) or [language.words("no_limit")])
    if models:
        yield _granted(tier, models, language)


def _granted(tier: Tier, models: tuple[Model, ...], language: Language) -> str:
    granted = [model.id for model in models if tier.allows_model(model.id)]
    if len(granted) == len(models):
        return language.words("every_model")
    return el("ul", *(el("li", el("bdi", name)) for name in granted))


def _models_table(catalog: Catalog, tiers: tuple[Tier, ...], models: list[Model], language: Language) -> Html:
    heads = [language.words(key) for key in ("model", "price", "included")]
    rows = (_model_row(catalog, tiers, model, language) for model in models)
    return table(heads, rows, stacks=True)


def _model_row(catalog: Catalog, tiers: tuple[Tier, ...], model: Model, language: Language) -> Iterator[str]:
    name = el("strong", el("bdi", model.title or model.id))
    more = [el("p", el("bdi", model.description), class_="soft")] if model.description else []
    known = [el("p", el("bdi", model.id), class_="soft")] if model.title else []
    yield el("td", name, *known, *more)
    yield lines(price_words(catalog.prices[model.id], language))
    first = lowest(tiers, model.id)
    yield language.words("from_tier", plan=first.title or first.name) if first else "–"
