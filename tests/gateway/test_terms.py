"""What follows from tier, key, route, model and rule alone: found once for a catalogue, and never kept for another."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from config.catalog import Catalog, Model
from gateway import terms as terms_module
from gateway.terms import KnownTerms, check_asked, check_granted, known_model, no_model, terms_of
from ledger.price import Price
from policies.key_limits import UNLIMITED, KeyLimits
from policies.task import TaskRule
from policies.tier import Tier, Window
from tests.gateway.chain import CATALOG, ONE, OTHER_KIND, PRICES, THREE, TIER, TWO, code_of, principal
from tests.gateway.parts import CHAT, EMBEDDINGS, URL


def test_a_model_is_found_by_its_name_and_its_kind() -> None:
    assert known_model(CATALOG, CHAT, "one") is ONE
    assert code_of(known_model, CATALOG, CHAT, "nobody") == "model_not_found"
    assert code_of(known_model, CATALOG, CHAT, "other") == "invalid_request"
    assert known_model(CATALOG, EMBEDDINGS, "other") is OTHER_KIND
    assert len(no_model("x" * 5000).message) < 200


def test_both_the_tier_and_the_key_must_grant_a_model() -> None:
    check_granted(Tier("t", models=("o*",)), KeyLimits(models=("*e",)), ONE, URL)
    tier_only, key_only = Tier("t", models=("two",)), KeyLimits(models=("two",))
    assert code_of(check_granted, tier_only, None, ONE, URL) == "model_not_allowed"
    assert code_of(check_granted, Tier("t"), key_only, ONE, URL) == "model_not_allowed"


def test_a_tier_grants_features_and_sizes() -> None:
    check_asked(Tier("t", features=("tools",)), ONE, URL, frozenset(["tools"]), 10, 10)
    assert code_of(check_asked, Tier("t", features=()), ONE, URL, frozenset(["tools"])) == "feature_not_allowed"
    assert code_of(check_asked, Tier("t", max_context=9), ONE, URL, tokens=10) == "request_too_large"
    assert code_of(check_asked, Tier("t", max_output=9), ONE, URL, asked_output=10) == "request_too_large"


def models(limits: KeyLimits | None = None, tier: Tier = TIER, model: Model = ONE) -> list[str]:
    return [each.id for each, _ in terms_of(CATALOG, tier, limits, CHAT, model, URL).models]


def test_a_fallback_needs_a_price_and_the_grant_of_tier_and_key() -> None:
    assert models() == ["one", "two"]
    assert models(tier=Tier("t", models=("one",))) == ["one"]
    assert models(KeyLimits(models=("one",))) == ["one"]
    assert models(model=THREE) == []


RULED = msgspec.structs.replace(TIER, markup_ppm=2_000_000, concurrency=3)


def test_a_rule_puts_another_model_in_place_where_it_is_priced_and_granted() -> None:
    rule = TaskRule("title", model="two", factor_ppm=500_000)
    found = terms_of(CATALOG, RULED, None, CHAT, ONE, URL, rule, task=True)
    assert found.instead is not None and found.instead.model is TWO and found.model is ONE
    assert found.factor_ppm == found.instead.factor_ppm == 1_000_000
    assert (found.lane, found.concurrency) == ("tasks", 12)
    assert terms_of(CATALOG, RULED, KeyLimits(models=("one",)), CHAT, ONE, URL, rule).instead is None
    assert terms_of(CATALOG, RULED, None, CHAT, ONE, URL, TaskRule("title", model="three")).instead is None


def test_the_longest_answer_is_the_least_of_the_bounds() -> None:
    long = msgspec.structs.replace(ONE, max_output=90)
    assert terms_of(CATALOG, TIER, None, CHAT, ONE, URL).output_max is None
    assert terms_of(CATALOG, TIER, None, CHAT, long, URL).output_max == 90
    assert terms_of(CATALOG, Tier("t", max_output=50), None, CHAT, long, URL).output_max == 50


def found(known: KnownTerms, catalog: Catalog = CATALOG, tier: Tier = TIER, **who: Any) -> terms_module.Terms:
    return known.get(catalog, tier, CHAT, "one", principal(**who), lambda tier: URL)


def test_terms_are_found_once_and_a_key_that_bounds_nothing_has_those_of_all() -> None:
    known = KnownTerms()
    assert found(known) is found(known) is found(known, limits=UNLIMITED.owned_by(UUID(int=9)))
    assert found(known, tier=Tier("other")) is not found(known)
    assert found(known, task="title") is found(known, task="tags") is not found(known)


def test_a_key_with_bounds_of_its_own_has_terms_of_its_own() -> None:
    known = KnownTerms()
    windows = KeyLimits(windows=(Window(5, "output_tokens", 60),))
    one, two = windows.owned_by(UUID(int=8)), windows.owned_by(UUID(int=9))
    assert [window.scope for window in found(known, limits=one).windows][-1] == f"key:{UUID(int=8)}"
    assert found(known, limits=one) is found(known, limits=one) is not found(known, limits=two)
    assert code_of(found, known, limits=KeyLimits(models=("two",))) == "model_not_allowed"


def test_calls_of_two_rules_have_two_terms() -> None:
    known = KnownTerms()
    rules = {name: TaskRule(name, factor_ppm=part) for name, part in (("title", 500_000), ("tags", 200_000))}
    ruled = Catalog(models=CATALOG.models, prices=PRICES, tasks=rules)
    parts = [found(known, ruled, task=task).factor_ppm for task in ("title", "tags", "other")]
    assert parts == [500_000, 200_000, 1_000_000]


def test_nothing_is_kept_of_another_catalogue() -> None:
    known, dear = KnownTerms(), Catalog(models=CATALOG.models, prices={"one": Price(9, "one", {"input": 1})})
    assert found(known).models[0][1] is PRICES["one"]
    assert [price.version for _, price in found(known, dear).models] == [9]
    assert found(known).models[0][1] is PRICES["one"]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms_module, "_KNOWN_MAX", 2)
    known = KnownTerms()
    for name in "abcdef":
        assert found(known, tier=Tier(name)).tier.name == name
    assert len(known._known) <= 2
