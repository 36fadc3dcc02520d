"""A catalogue with something of everything, for what is offered to the public."""

from __future__ import annotations

from config.catalog import Catalog, Model
from ledger.price import Price, Step
from policies.tier import Allowance, Tier, Window

EVIL = "<script>alert('x')</script>"
USD = 10**9

MODELS = (
    Model("small", "main", "small"),
    Model("large", "main", "large", title="Large & Co", description=EVIL, context=1000, max_output=100),
    Model("paint", "main", "paint", kind="image"),
    Model("secret", "main", "secret", listed=False),
    Model("unpriced", "main", "unpriced"),
)
PRICES = (
    Price(1, "small", {"input": 150_000, "cache_read": 75_000, "output": 600_000}),
    Price(2, "large", {"input": 2_500_000, "output": 10_000_000}, 1000, Step(200, {"input": 5_000_000})),
    Price(3, "paint", {"images": 4 * 10**10}, variants={"hd": {"images": 8 * 10**10}}),
    Price(4, "secret", {"input": 1}),
)
TIERS = (
    Tier("yearly", price=60 * USD, price_every="year"),
    Tier("pro", title="Pro", price=30 * USD, allowance=Allowance(5 * USD), markup_ppm=1_200_000, concurrency=4),
    Tier(
        "free",
        title=EVIL,
        models=("small",),
        allowance=Allowance(1000, "tokens", "day"),
        windows=(
            Window(20, "requests", 60),
            Window(USD, "cost", 86_400, "chat.completions", ("gpt-*",)),
        ),
        max_output=1024,
        max_context=8192,
        upgrade_to="pro",
    ),
    Tier("bare", models=("small",)),
    Tier("admin", unlimited=True, listed=False),
    Tier("gone"),
)
CATALOG = Catalog(
    models={model.id: model for model in MODELS},
    tiers={tier.name: tier for tier in TIERS},
    prices={price.model: price for price in PRICES},
    revision="r1",
    retired_tiers=frozenset(("gone",)),
)
