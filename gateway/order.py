"""A call as every rule sees it before anything is counted: who calls, by which tier, which models may answer, and how
much of what that may take."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from config.catalog import Catalog, Model
from gateway import sentences
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.surface import Surface
from ledger.usage import Usage
from policies import entitlement
from policies.buckets import Rules
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.tier import Tier, Window

_MENDED_S = 300  # what an operator has to mend is not mended in seconds
_SHOWN = 100  # characters of the caller's own words in a sentence


class Candidate(Struct, frozen=True):
    """A model that may answer, with what it would cost."""

    model: Model
    bill: Bill
    estimated: int = 0  # input tokens, before what we learnt of the model's own count was applied


class Order(Struct, frozen=True):
    """``candidates`` at their models' own prices, the model asked for first. ``reserve`` is the output to set aside,
    ``least`` the output without which no answer is worth beginning; tokens of all choices together."""

    principal: Principal
    tier: Tier
    surface: Surface
    candidates: tuple[Candidate, ...]
    reserve: int
    least: int
    url: str  # where the caller goes for more

    @property
    def model(self) -> Model:
        return self.candidates[0].model

    @property
    def foreseen(self) -> Usage:
        """What the request itself will consume, without its answer."""
        return self.candidates[0].bill.foreseen

    def rules(self, cost: int) -> Rules:
        """The windows this call counts in, those of the tier and those of the key, each with its part of the call.
        ``cost`` is what the call takes of windows that count money, in nano-USD."""
        route, model, limits = self.surface.route, self.model.id, self.principal.limits
        windows = self.tier.windows_for(route, model)
        if limits is not None and limits.windows:
            windows += limits.windows_for(route, model)
        tokens, reserve = self.foreseen.input_tokens if windows else 0, self.reserve
        return tuple([(window, _cost_in(window, tokens, reserve, cost)) for window in windows])


def _cost_in(window: Window, tokens: int, reserve: int, cost: int) -> int:
    match window.of:
        case "requests":
            return 1
        case "input_tokens":
            return tokens
        case "output_tokens":
            return reserve
        case "tokens":
            return tokens + reserve
        case "cost":
            return cost


def no_model(name: str) -> Refusal:
    """The refusal of a model that the catalogue does not have."""
    return Refusal.of("model_not_found", f"There is no model called {name[:_SHOWN]!r} here.", param="model")


def known_model(catalog: Catalog, surface: Surface, name: str) -> Model:
    """The model of this name, of the kind this route takes. Raises Refusal."""
    model = catalog.model(name)
    if model is None:
        raise no_model(name)
    if model.kind != surface.kind:
        message = f"The model {model.id} is for {model.kind}, not for {surface.route}."
        raise Refusal.of("invalid_request", message, param="model")
    return model


def check_granted(
    tier: Tier,
    limits: KeyLimits | None,
    model: Model,
    url: str,
    features: Iterable[str] = (),
    tokens: int = 0,
    asked_output: int | None = None,
) -> None:
    """Raises Refusal for the first thing that the tier or the key does not grant."""
    deny = entitlement.check(tier, model.id, features, tokens, asked_output)
    if deny is not None:
        raise sentences.denied(deny, tier, url)
    if limits is not None and not limits.allows_model(model.id):
        raise sentences.not_with_this_key(model.id, tier)


def candidates_of(
    catalog: Catalog, tier: Tier, limits: KeyLimits | None, model: Model, foreseen: Usage, estimated: int = 0
) -> tuple[Candidate, ...]:
    """The model and its fallbacks, each at its own price. A fallback nobody priced, or that the tier or the key does
    not grant, is no candidate. Raises Refusal where the model itself has no price."""
    price = catalog.price(model.id)
    if price is None:
        message = f"The model {model.id} has no price yet, so it cannot be used."
        raise Refusal.of("price_missing", message, retry_after_s=_MENDED_S)
    found = [Candidate(model, Bill(price, tier.markup_ppm, foreseen), estimated)]
    for other in catalog.fallbacks(model.id):
        price = catalog.price(other.id)
        granted = tier.allows_model(other.id) and (limits is None or limits.allows_model(other.id))
        if price is not None and other.kind == model.kind and granted:
            found.append(Candidate(other, Bill(price, tier.markup_ppm, foreseen), estimated))
    return tuple(found)
