"""The catalogue as values: what is granted, who answers instead, and what does not fit together."""

from __future__ import annotations

from config.catalog import Catalog, Declared, Model, Upstream, complaints
from ledger.price import Price
from policies.tier import Tier


def model(name: str, fallback: str | None = None) -> Model:
    return Model(id=name, upstream="u", upstream_model=name, fallback=fallback)


def catalog(*models: Model) -> Catalog:
    return Catalog(models={each.id: each for each in models})


def test_what_is_not_there_is_none_and_a_missing_price_is_not_free() -> None:
    empty = Catalog()
    assert (empty.model("m"), empty.tier("t"), empty.upstream("u"), empty.price("m")) == (None, None, None, None)
    assert Catalog(prices={"m": Price(1, "m")}).price("m") == Price(1, "m")


def test_a_tier_sees_the_models_its_patterns_grant_by_id() -> None:
    seen = catalog(model("b-1"), model("a-2"), model("a-1")).models_for(Tier(name="t", models=("a-*",)))
    assert [each.id for each in seen] == ["a-1", "a-2"]


def test_fallbacks_come_nearest_first() -> None:
    chain = catalog(model("a", "b"), model("b", "c"), model("c")).fallbacks("a")
    assert [each.id for each in chain] == ["b", "c"]


def test_a_ring_of_fallbacks_ends() -> None:
    ring = catalog(model("a", "b"), model("b", "c"), model("c", "b"))
    assert [each.id for each in ring.fallbacks("a")] == ["b", "c"]
    assert [each.id for each in ring.fallbacks("b")] == ["c"]
    assert catalog(model("a", "a")).fallbacks("a") == ()
    assert catalog(model("a", "gone")).fallbacks("a") == ()


def test_every_misfit_is_told_with_its_place() -> None:
    declared = Declared(
        upstreams=(Upstream("u", "http://u"), Upstream("u", "http://v")),
        models=(model("a", "b"), model("b", "a"), model("c", "zz"), Model(id="d", upstream="x", upstream_model="d")),
        tiers=(Tier(name="free", upgrade_to="gold"), Tier(name="pro", upgrade_to="pro")),
    )
    assert [str(complaint) for complaint in complaints(declared)] == [
        "upstreams[1].name: u is declared twice",
        "models[0].fallback: the fallbacks of a lead back to it",
        "models[1].fallback: the fallbacks of b lead back to it",
        "models[2].fallback: there is no model zz",
        "models[3].upstream: there is no upstream x",
        "tiers[0].upgrade_to: there is no tier gold",
        "tiers[1].upgrade_to: pro cannot be its own upgrade",
    ]


def test_parts_that_fit_raise_no_complaint() -> None:
    declared = Declared((Upstream("u", "http://u"),), (model("a", "b"), model("b")), (Tier(name="t"),))
    assert complaints(declared) == []
