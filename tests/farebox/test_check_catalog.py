"""A catalogue under the doctor's eyes: what is refused, leads nowhere, or never applies."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from config.catalog import Declared, Model, Rates, Upstream
from config.shipped import shipped_tiers
from farebox.check_catalog import look_at_catalog
from farebox.findings import Found
from policies.tier import Tier, Window

GOOD = Declared(
    upstreams=(Upstream("u", "http://h"), Upstream("v", "http://h")),
    models=(Model("m", "u", "m", fallback="n"), Model("n", "v", "n")),
    tiers=(Tier("free", upgrade_to="pro"), Tier("pro", models=("m*", "n"))),
    rates={"m": Rates(), "n": Rates()},
)


def looked(catalog: Declared, default: str = "free") -> list[Found]:
    return [found for found in look_at_catalog(catalog, default) if found.verdict != "ok"]


def only(catalog: Declared, default: str = "free") -> tuple[str, str, str]:
    (found,) = looked(catalog, default)
    return found.subject, found.verdict, found.says


def test_a_good_catalogue_is_good() -> None:
    (offered,) = look_at_catalog(GOOD, "free")
    assert (offered.verdict, offered.says) == ("ok", "2 upstreams, 2 models, 2 tiers")


def test_nothing_to_call_is_told() -> None:
    found = looked(replace(GOOD, upstreams=(), models=()))
    assert [(each.subject, each.verdict) for each in found] == [("offered", "warning")]


def test_a_model_without_a_price_is_told() -> None:
    found = looked(replace(GOOD, rates={"m": Rates()}))
    assert ("model n", "has no price, so calls to it are refused") in [(each.subject, each.says) for each in found]


_FALLBACKS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "embedding"}, "is for embedding, and it is for chat"),
    ({"upstream": "u"}, "has the same backend"),
]


@pytest.mark.parametrize(("change", "said"), _FALLBACKS)
def test_a_fallback_that_never_helps_is_told(change: dict[str, Any], said: str) -> None:
    found = looked(replace(GOOD, models=(GOOD.models[0], replace(GOOD.models[1], **change))))
    assert [each.verdict for each in found if each.subject == "model m" and said in each.says] == ["warning"]


def test_a_fallback_without_a_price_is_told() -> None:
    found = looked(replace(GOOD, rates={"m": Rates()}))
    assert "its fallback n has no price" in [each.says for each in found]


def test_parts_that_do_not_fit_each_other_are_errors() -> None:
    found = looked(replace(GOOD, upstreams=GOOD.upstreams[:1]))
    assert [(each.subject, each.verdict) for each in found] == [("models[1].upstream", "error")]


def test_a_backend_without_a_model_is_noted() -> None:
    found = looked(replace(GOOD, upstreams=(*GOOD.upstreams, Upstream("w", "http://h"))))
    assert [(each.subject, each.verdict) for each in found] == [("upstream w", "note")]


def test_a_default_tier_that_is_not_offered_is_an_error() -> None:
    subject, verdict, said = only(GOOD, "gold")
    assert (subject, verdict) == ("default tier gold", "error") and "free, pro" in said


def test_the_shipped_tiers_are_said_to_be_those() -> None:
    assert only(replace(GOOD, tiers=shipped_tiers()))[:2] == ("tiers", "note")
    changed = (replace(shipped_tiers()[0], title="Ours"), *shipped_tiers()[1:])
    assert looked(replace(GOOD, tiers=changed)) == []


def test_patterns_that_match_nothing_are_told() -> None:
    windows = (Window(1, "requests", 60, models=("gpt-*",)),)
    tiers = (Tier("free", models=("m", "o3*"), windows=windows), Tier("none", models=("x",)))
    told = {(each.subject, each.says) for each in looked(replace(GOOD, tiers=tiers))}
    assert told == {
        ("tier free", "no model is called o3*"),
        ("tier free", "no model is called gpt-*"),
        ("tier none", "grants no model that is offered"),
    }


def test_upgrades_in_a_circle_are_told_once() -> None:
    ring = (Tier("free", upgrade_to="b"), Tier("b", upgrade_to="c"), Tier("c", upgrade_to="b"))
    assert only(replace(GOOD, tiers=ring)) == ("tier b", "warning", "its upgrades go in a circle: b → c")
