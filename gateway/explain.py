"""What would happen to a user's next call, rule by rule, in the order in which a call meets them. Asks, never spends.

The call that is explained is a small one: a few tokens each way, or one unit of whatever its model counts. The sentence
of a refusal is the gateway's own, made by the functions that make it for a call.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from accounts.standing import NoTier, Standing, stand
from accounts.users import User
from config.catalog import Catalog, Kind, Model
from config.catalog_fields import factor_text
from gateway import sentences
from gateway.admission import OUTPUT_LEAST, Admitter, limiter_away
from gateway.errors import Refusal
from gateway.explain_money import MoneyLook
from gateway.identity import active, principal_of
from gateway.order import Order, candidates_of
from gateway.purse import purses_of
from gateway.report import Report
from gateway.sentences import instant
from gateway.surface import Surface
from gateway.surfaces import SURFACES
from gateway.terms import Terms, check_granted, no_model, terms_of
from ledger.ids import uuid7
from ledger.money import format_usd
from ledger.store import Bank
from ledger.usage import Usage
from policies.buckets import Ask, Buckets, BucketsBusy, BucketsUnavailable, Level, Look
from policies.explanation import Explanation
from policies.lanes import Lane
from policies.task import PPM, TaskRule
from policies.tier import Tier, Window

_SMALL: dict[Kind, Usage] = {
    "chat": Usage(input=16),
    "completion": Usage(input=16),
    "embedding": Usage(input=16),
    "rerank": Usage(input=16),
    "speech": Usage(input=4, characters=16),
    "transcription": Usage(audio_in=10, seconds=1),
    "image": Usage(input=16, images=1),
    "moderation": Usage(),
}
_LANES: dict[Lane, str] = {"own": "calls", "tasks": "tasks", "embeddings": "embeddings"}
_FEATURES = ("tools", "images", "web_search", "audio")


class Explainer:
    """One for each process."""

    def __init__(
        self,
        *,
        catalog: Callable[[], Catalog],
        admitter: Admitter,
        bank: Bank,
        buckets: Buckets,
        default_tier: str,
    ) -> None:
        self._catalog = catalog
        self._admitter = admitter
        self._bank = bank
        self._buckets = buckets
        self._default_tier = default_tier

    async def explain(self, user: User, model: str | None, now: datetime, task: str = "") -> Explanation:
        """The next call of this user to this model; without one, to the cheapest that the plan grants. ``task``: as a
        call nobody typed, with this label."""
        report, catalog = Report(), self._catalog()
        _tell_account(report, user)
        try:
            standing = stand(user, catalog, self._default_tier, now)
        except NoTier:
            report.refuses("tier", sentences.no_tier())
            return report.explanation("", model)
        _tell_standing(report, standing)
        order = self._order(report, catalog, user, standing, model, task)
        if order is not None:
            await self._counts_and_money(report, order, now)
        return report.explanation(standing.tier.name, model)

    def _order(
        self, report: Report, catalog: Catalog, user: User, standing: Standing, wanted: str | None, task: str
    ) -> Order | None:
        """The small call, as far as the rules that count nothing let it come."""
        tier, url = standing.tier, self._admitter.upgrade_url(standing.tier)
        model = _model(report, catalog, tier, wanted, url)
        if model is None:
            return None
        rule = catalog.task_rule(task)
        terms = terms_of(catalog, tier, None, _surface(model), model, url, rule, task=task != "")
        asked, terms = model, terms.instead or terms
        if task:
            _tell_task(report, task, rule, asked, terms.model)
        try:
            candidates = candidates_of(terms, _SMALL[model.kind])
        except Refusal as refusal:
            report.refuses("price", refusal)
            return None
        report.passes("price", "The model has a price.", version=candidates[0].bill.price.version)
        _tell_features(report, tier)
        reserve = OUTPUT_LEAST if terms.surface.has_output else 0
        return Order(principal_of(user, standing, task=task), terms, candidates, reserve, OUTPUT_LEAST)

    async def _counts_and_money(self, report: Report, order: Order, now: datetime) -> None:
        money = MoneyLook(order, purses_of(order, now), now)
        await money.ask(self._bank)
        who = order.principal
        rules = order.rules(money.paying.cost)
        ask = Ask(str(who.wallet_id), str(who.user_id), str(uuid7()), order.concurrency, "", rules, order.lane)
        try:
            _tell_counts(report, order, ask, await self._buckets.peek(ask), now)
        except (BucketsUnavailable, BucketsBusy):
            refusal = sentences.denied(limiter_away(), order.tier, order.url)
            report.unknown("windows", "Limits cannot be read at the moment.", refusal)
        money.tell(report)


def _tell_account(report: Report, user: User) -> None:
    try:
        active(user)
        report.passes("account", "The account is active.", status=user.status)
    except Refusal as refusal:
        report.refuses("account", refusal, status=user.status)
    report.passes("key", "No key is looked at: what a key itself allows comes on top.")


def _tell_standing(report: Report, standing: Standing) -> None:
    tier, group = standing.tier, standing.group
    report.passes("tier", f"The plan is {tier.title or tier.name}.", tier=tier.name, since=instant(standing.since))
    if group is None:
        report.passes("group", "No group counts for this account.")
        return
    gives = "its wallet pays" if group.shared else "it gives credits" if group.allowance else "the user's wallet pays"
    report.passes("group", f"The account belongs to {group.name}: {gives}.", group=group.name, shared=group.shared)


def _model(report: Report, catalog: Catalog, tier: Tier, wanted: str | None, url: str) -> Model | None:
    """The model to be called; None where there is none of this name, or none at all."""
    if wanted is None:
        model = _cheapest(catalog, tier)
        if model is None:
            report.refuses("model_granted", sentences.no_model_granted(tier, url))
            return None
    else:
        model = catalog.model(wanted)
        if model is None:
            report.refuses("model_exists", no_model(wanted))
            return None
    report.passes("model_exists", f"There is a model {model.id}.", model=model.id, kind=model.kind)
    try:
        check_granted(tier, None, model, url)
        report.passes("model_granted", "The plan grants it.", models=tier.models)
    except Refusal as refusal:
        report.refuses("model_granted", refusal, models=tier.models)
    return model


def _tell_task(report: Report, task: str, rule: TaskRule | None, asked: Model, model: Model) -> None:
    """How a call nobody typed is paid, and who answers it."""
    if rule is None:
        report.passes("task", f"No rule is for {task}: it is paid like any other call.", rule=None)
        return
    payer = "The house pays, up to its cap for each user" if rule.pays == "house" else "The caller pays"
    part = "" if rule.factor_ppm == PPM else f", at {factor_text(rule.factor_ppm)} of the price"
    answers = "" if model is asked else f" {model.id} answers in place of {asked.id}."
    says = f"Its rule is {rule.name}. {payer}{part}.{answers}"
    report.passes("task", says, rule=rule.name, pays=rule.pays, factor=factor_text(rule.factor_ppm), model=model.id)


def _cheapest(catalog: Catalog, tier: Tier) -> Model | None:
    """Of the models the tier grants, the one whose small call costs least; those without a price come last."""
    granted = catalog.models_for(tier)
    priced = [model for model in granted if catalog.price(model.id) is not None]

    def cost(model: Model) -> tuple[bool, int]:
        bill = candidates_of(_terms(catalog, tier, model), _SMALL[model.kind])[0].bill
        return model.kind != "chat", bill.expected(OUTPUT_LEAST)

    return min(priced, key=cost) if priced else next(iter(granted), None)


def _surface(model: Model) -> Surface:
    return next(surface for surface in SURFACES if surface.kind == model.kind)


def _terms(catalog: Catalog, tier: Tier, model: Model) -> Terms:
    return terms_of(catalog, tier, None, _surface(model), model, "")


def _tell_features(report: Report, tier: Tier) -> None:
    granted = [feature for feature in _FEATURES if tier.allows_feature(feature)]
    said = ", ".join(granted).replace("_", " ") or "none"
    report.passes("features", f"Features the plan grants: {said}.", granted=granted)


def _tell_counts(report: Report, order: Order, ask: Ask, look: Look, now: datetime) -> None:
    """Each window, and the calls under way. Of several that refuse, a call is told of the one that keeps it longest."""
    told = sentences.denied(look.deny, order.tier, order.url) if look.deny else None
    if told is not None:
        report.stops(told)
    for (window, cost), level in zip(ask.rules, look.levels, strict=True):
        says, detail = _window(window, level, cost, now)
        if told is None or level.used + cost <= window.limit:
            report.passes("window", says, **detail)
        else:
            report.refuses("window", told, says, **detail)
    limit, running, what = order.concurrency, look.open_calls, _LANES[order.lane]
    if told is not None and 0 < limit <= running:
        report.refuses("concurrency", told, f"{running} of {limit} {what} are running.", limit=limit, used=running)
    else:
        without = f"{running} {what} are running, without a limit."
        says = f"{running} of {limit} {what} are running." if limit else without
        report.passes("concurrency", says, limit=limit or None, used=running)


def _window(window: Window, level: Level, cost: int, now: datetime) -> tuple[str, dict[str, Any]]:
    shown: Callable[[int], Any] = format_usd if window.of == "cost" else int
    resets_at = instant(now + timedelta(milliseconds=level.reset_ms)) if level.used else None
    used, limit = shown(level.used), shown(window.limit)
    detail = {"window": window.name, "used": used, "limit": limit, "needed": shown(cost), "resets_at": resets_at}
    return f"Of {limit} {sentences.per(window.of, window.seconds)}, {used} are used.", detail
