"""On which terms a call is made: what follows from tier, key, route, model and rule alone, whoever calls and whatever
for. Found once for each catalogue; a call reads it as it stands."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from config.catalog import Catalog, Model
from gateway import sentences
from gateway.errors import Refusal
from gateway.language import sentence
from gateway.surface import Surface
from ledger.price import Price
from policies import entitlement, lanes
from policies.key_limits import KeyLimits
from policies.lanes import Lane
from policies.principal import Principal
from policies.task import PPM, TaskRule
from policies.tier import Tier, Window

_SHOWN = 100  # characters of the caller's own words in a sentence
_KNOWN_MAX = 4096
_ANY = ("*",)


class Terms(Struct, frozen=True):
    """``models`` may answer, each at its price, ``model`` first; none where that one has no price. The call counts in
    ``windows``; so many calls of its ``lane`` may be open at once (0: no limit), and ``output_max`` is the longest
    answer in tokens that tier and model allow. ``instead``: the terms of the model that ``rule`` (of a call nobody
    typed) puts in the place of this one. ``url`` is where the caller goes for more."""

    tier: Tier
    surface: Surface
    model: Model
    models: tuple[tuple[Model, Price], ...]
    factor_ppm: int
    windows: tuple[Window, ...]
    lane: Lane
    concurrency: int
    output_max: int | None
    url: str
    rule: TaskRule | None = None
    instead: Terms | None = None


class KnownTerms:
    """Those met since the catalogue was read, for one process."""

    def __init__(self) -> None:
        self._of: Catalog | None = None
        self._known: dict[tuple[object, ...], Terms] = {}

    def get(
        self,
        catalog: Catalog,
        tier: Tier,
        surface: Surface,
        model: str,
        principal: Principal,
        url_of: Callable[[Tier], str],
    ) -> Terms:
        """The terms of this caller's call to the model it names. Raises Refusal: there is no such model on this route,
        or the tier or the key does not grant it."""
        if catalog is not self._of or len(self._known) >= _KNOWN_MAX:
            self._of, self._known = catalog, {}
        task, limits = principal.task, principal.limits
        rule = catalog.task_rule(task) if task else None
        if limits is not None and limits.models == _ANY and not limits.windows:
            limits = None  # a key that bounds no call by itself: one of very many
        name = tier.name, model, surface.route, task != "", rule and rule.name, limits
        terms = self._known.get(name)
        if terms is None:
            asked, url = known_model(catalog, surface, model), url_of(tier)
            check_granted(tier, limits, asked, url)
            terms = self._known[name] = terms_of(catalog, tier, limits, surface, asked, url, rule, task=task != "")
        return terms


def terms_of(
    catalog: Catalog,
    tier: Tier,
    limits: KeyLimits | None,
    surface: Surface,
    model: Model,
    url: str,
    rule: TaskRule | None = None,
    *,
    task: bool = False,
) -> Terms:
    """The terms of a call that names this model."""
    lane = lanes.lane_of(surface.route, "task" if task else "")

    def of(model: Model, instead: Terms | None = None) -> Terms:
        return Terms(
            tier=tier,
            surface=surface,
            model=model,
            models=_priced(catalog, tier, limits, model),
            factor_ppm=factor_ppm(tier, rule),
            windows=lanes.counted(tier, limits, surface.route, model.id, lane),
            lane=lane,
            concurrency=lanes.concurrency(tier, lane),
            output_max=min((each for each in (tier.max_output, model.max_output) if each is not None), default=None),
            url=url,
            rule=rule,
            instead=instead,
        )

    answering = routed(catalog, tier, limits, model, rule)
    return of(model, None if answering is model else of(answering))


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


def check_granted(tier: Tier, limits: KeyLimits | None, model: Model, url: str) -> None:
    """Raises Refusal where the tier or the key does not grant the model."""
    check_asked(tier, model, url)
    if limits is not None and not limits.allows_model(model.id):
        raise sentences.not_with_this_key(model.id, tier)


def check_asked(
    tier: Tier,
    model: Model,
    url: str,
    features: frozenset[str] = frozenset(),
    tokens: int = 0,
    asked_output: int | None = None,
) -> None:
    """Raises Refusal for the first thing that the tier does not grant."""
    deny = entitlement.check(tier, model.id, features, tokens, asked_output)
    if deny is not None:
        raise sentences.denied(deny, tier, url)


def routed(catalog: Catalog, tier: Tier, limits: KeyLimits | None, asked: Model, rule: TaskRule | None) -> Model:
    """The model that is to answer: the one the rule names, where it is offered, has a price, and is granted; else the
    one that was asked for."""
    model = catalog.model(rule.model) if rule is not None and rule.model is not None else None
    if model is None or model.kind != asked.kind or catalog.price(model.id) is None:
        return asked
    granted = tier.allows_model(model.id) and (limits is None or limits.allows_model(model.id))
    return model if granted else asked


def factor_ppm(tier: Tier, rule: TaskRule | None) -> int:
    """What multiplies a price: the tier's markup, and the discount of a task, rounded up to a millionth."""
    return tier.markup_ppm if rule is None else -(-tier.markup_ppm * rule.factor_ppm // PPM)


def _priced(catalog: Catalog, tier: Tier, limits: KeyLimits | None, model: Model) -> tuple[tuple[Model, Price], ...]:
    """The model and its fallbacks. A fallback nobody priced, or that the tier or the key does not grant, is none."""
    price = catalog.price(model.id)
    if price is None:
        return ()
    found = [(model, price)]
    for other in catalog.fallbacks(model.id):
        price = catalog.price(other.id)
        granted = tier.allows_model(other.id) and (limits is None or limits.allows_model(other.id))
        if price is not None and other.kind == model.kind and granted:
            found.append((other, price))
    return tuple(found)
