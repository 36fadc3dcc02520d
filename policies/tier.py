"""A tier: the named bundle of what its members may do and how fast.

Values only, decoded from JSON or built by hand. This file decides nothing about a single call (`entitlement.py`,
`rate.py`) and keeps no counters (`buckets.py`).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from msgspec import Struct

from ledger.period import Every as Every
from policies import schedule

Of = Literal["requests", "tokens", "input_tokens", "output_tokens", "cost"]
Unit = Literal["usd", "tokens"]

AMOUNT_MAX = 2**53 - 1
"""Largest amount a window may count: Redis Lua numbers are doubles, exact up to here (9 million USD in nano-USD)."""

PER_REQUEST_MAX = 1000
"""Most calls nobody typed, or embeddings, that one request of a person may bring."""


class Window(Struct, frozen=True, dict=True, cache_hash=True):
    """At most `limit` of something within any `seconds` seconds.

    `limit` is a number of requests or tokens, or nano-USD where `of` is "cost". A window may count one `route` (its
    OpenAI name, like "chat.completions") and the models that match one of the `models` patterns, all of them together;
    without these it counts every call, but requests without a route by lane (`lanes.py`). A limit of 0 refuses every
    call that costs anything. Windows of another `scope` (like "key:<id>") are counted apart; a tier's have none.
    """

    limit: int
    of: Of
    seconds: int
    route: str | None = None
    models: tuple[str, ...] = ()
    scope: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= AMOUNT_MAX:
            raise ValueError(f"window limit must be between 0 and {AMOUNT_MAX}, not {self.limit}")
        if self.seconds < 1:
            raise ValueError(f"window seconds must be at least 1, not {self.seconds}")

    @cached_property
    def name(self) -> str:
        """Stable id: the limit is left out, so that raising it does not forget what was already used."""
        name = f"{self.scope}/{self.of}/{self.seconds}" if self.scope else f"{self.of}/{self.seconds}"
        if self.models:
            return f"{name}/{self.route or '*'}/{','.join(self.models)}"
        return f"{name}/{self.route}" if self.route else name

    def covers(self, route: str, model: str) -> bool:
        """Whether a call on `route` for `model` counts in this window."""
        return self.route in (None, route) and (not self.models or matches(self.models, model))


class Allowance(Struct, frozen=True):
    """What is given per period: `amount` nano-USD, or tokens, every day, week, month or year of the zone `zone` (IANA).

    `anchor` is the day the period starts on (of the month, or ISO weekday); None means the first. An allowance by
    `anniversary` starts on the day of the month, or of the week, on which its user got the tier.
    """

    amount: int
    unit: Unit = "usd"
    every: Every = "month"
    zone: str = "UTC"
    anchor: int | None = None
    anniversary: bool = False

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError(f"allowance amount must not be negative, not {self.amount}")
        if self.anniversary and (self.anchor is not None or self.every not in ("week", "month")):
            raise ValueError("an anniversary needs an allowance by the week or month, and no anchor beside it")
        schedule.check(self.every, self.zone, self.anchor)


class Tier(Struct, frozen=True):
    """What one tier grants.

    `models` are fnmatch patterns; `features` are names (tools, images, web_search, audio) or "*". `concurrency` 0 means
    no limit; `max_output` and `max_context` are tokens, None meaning the model's own bound. `markup_ppm` multiplies
    every charge (1 000 000 = as priced). `price` is nano-USD every `price_every` and is only shown. Where windows of
    requests and the concurrency allow a person one call, `tasks_per_request` calls may come that nobody typed, and
    (in windows) `embeddings_per_request` embeddings; `embeddings_concurrency` None is the usual (`lanes.py`).
    `listed` tiers stand in the public price list. `sentences` are texts of its own for what its members are told, by
    language and sentence.
    """

    name: str
    title: str = ""
    models: tuple[str, ...] = ("*",)
    windows: tuple[Window, ...] = ()
    concurrency: int = 0
    allowance: Allowance | None = None
    markup_ppm: int = 1_000_000
    max_output: int | None = None
    max_context: int | None = None
    features: tuple[str, ...] = ("*",)
    unlimited: bool = False
    upgrade_to: str | None = None
    upgrade_url: str | None = None
    price: int = 0
    price_every: Literal["month", "year"] = "month"
    listed: bool = True
    sentences: dict[str, dict[str, str]] = {}
    tasks_per_request: int = 4
    embeddings_per_request: int = 50
    embeddings_concurrency: int | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tier needs a name")
        for field in ("concurrency", "markup_ppm", "price"):
            if getattr(self, field) < 0:
                raise ValueError(f"tier {field} must not be negative")
        for field in ("tasks_per_request", "embeddings_per_request"):
            if not 1 <= getattr(self, field) <= PER_REQUEST_MAX:
                raise ValueError(f"tier {field} must be between 1 and {PER_REQUEST_MAX}")
        if len({window.name for window in self.windows}) < len(self.windows):
            raise ValueError("a tier has two windows of the same kind, length and scope")

    def allows_model(self, model: str) -> bool:
        """Whether the tier grants the model with this id."""
        return matches(self.models, model)

    def allows_feature(self, feature: str) -> bool:
        """Whether the tier grants this feature."""
        return "*" in self.features or feature in self.features

    def windows_for(self, route: str, model: str) -> tuple[Window, ...]:
        """The windows a call on `route` for `model` counts in."""
        return tuple(window for window in self.windows if window.covers(route, model))


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the fnmatch patterns grants the name."""
    return "*" in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
