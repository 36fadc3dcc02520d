"""A call as every rule sees it before anything is counted: who calls, by which tier, which models may answer, and how
much of what that may take."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from config.catalog import Catalog, Model
from gateway import sentences
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.language import sentence
from gateway.surface import Surface
from ledger.usage import Usage
from policies import entitlement, lanes
from policies.buckets import Rules
from policies.key_limits import KeyLimits
from policies.lanes import Lane
from policies.principal import Principal
from policies.task import PPM, TaskRule
from policies.tier import Tier, Window

_MENDED_S = 300  # what an operator has to mend is not mended in seconds
_SHOWN = 100  # characters of the caller's own words in a sentence


class Candidate(Struct, frozen=True):
    """A model that may answer, with what it would cost."""

    model: Model
    bill: Bill
    estimated: int = 0  # input tokens, before what we learnt of the model's own count was applied


class Order(Struct, frozen=True):
    """``candidates`` at their models' own prices, the model that is to answer first: the one asked for, or the one that
    ``rule`` (of a call nobody typed) puts in its place. ``reserve`` is the output to set aside, ``least`` the output
    without which no answer is worth beginning; tokens of all choices together."""

    principal: Principal
    tier: Tier
    surface: Surface
    candidates: tuple[Candidate, ...]
    reserve: int
    least: int
    url: str  # where the caller goes for more
    rule: TaskRule | None = None

    @property
    def model(self) -> Model:
        return self.candidates[0].model

    @property
    def foreseen(self) -> Usage:
        """What the request itself will consume, without its answer."""
        return self.candidates[0].bill.foreseen

    @property
    def lane(self) -> Lane:
        """The calls of its user with which it is counted where only their number counts."""
        return lanes.lane_of(self.surface.route, self.principal.task)

    @property
    def concurrency(self) -> int:
        """How many calls of its lane may be open at once; 0: no limit."""
        return lanes.concurrency(self.tier, self.lane)

    def rules(self, cost: int) -> Rules:
        """The windows this call counts in, those of the tier and those of the key, each with its part of the call.
        ``cost`` is what the call takes of windows that count money, in nano-USD."""
        route, limits = self.surface.route, self.principal.limits
        windows = lanes.counted(self.tier, limits, route, self.model.id, self.lane)
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
    return Refusal.of("model_not_found", sentence("model_unknown", model=repr(name[:_SHOWN])), param="model")


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


def routed(catalog: Catalog, tier: Tier, limits: KeyLimits | None, asked: Model, rule: TaskRule | None) -> Model:
    """The model that is to answer: the one the rule names, where it is offered, has a price, and is granted; else the
    one that was asked for."""
    model = catalog.model(rule.model) if rule is not None and rule.model is not None else None
    if model is None or model.kind != asked.kind or catalog.price(model.id) is None:
        return asked
    granted = tier.allows_model(model.id) and (limits is None or limits.allows_model(model.id))
    return model if granted else asked


def fits(model: Model, tokens: int, asked_output: int | None) -> bool:
    """Whether so large a request is within what the model takes, as far as that is known."""
    output = asked_output or 0
    too_long = model.max_output is not None and output > model.max_output
    return not too_long and (model.context is None or tokens + output <= model.context)


def candidates_of(
    catalog: Catalog,
    tier: Tier,
    limits: KeyLimits | None,
    model: Model,
    foreseen: Usage,
    estimated: int = 0,
    rule: TaskRule | None = None,
) -> tuple[Candidate, ...]:
    """The model and its fallbacks, each at its own price, with the discount of the rule. A fallback nobody priced, or
    that the tier or the key does not grant, is no candidate. Raises Refusal where the model itself has no price."""
    factor = factor_ppm(tier, rule)
    price = catalog.price(model.id)
    if price is None:
        said = sentence("model_unpriced", model=model.id)
        raise Refusal.of("price_missing", said, retry_after_s=_MENDED_S)
    found = [Candidate(model, Bill(price, factor, foreseen), estimated)]
    for other in catalog.fallbacks(model.id):
        price = catalog.price(other.id)
        granted = tier.allows_model(other.id) and (limits is None or limits.allows_model(other.id))
        if price is not None and other.kind == model.kind and granted:
            found.append(Candidate(other, Bill(price, factor, foreseen), estimated))
    return tuple(found)


def factor_ppm(tier: Tier, rule: TaskRule | None) -> int:
    """What multiplies a price: the tier's markup, and the discount of a task, rounded up to a millionth."""
    return tier.markup_ppm if rule is None else -(-tier.markup_ppm * rule.factor_ppm // PPM)
