"""Catalogues made by chance, for what must hold for all of them."""

from __future__ import annotations

import string
from typing import Any, get_args

from hypothesis import strategies as st

from config.catalog import Declared, Kind, Model, Rates, Timeouts, Upstream
from ledger.budget import Budget
from ledger.price import Step
from ledger.usage import KINDS, UNIT_KINDS
from policies.task import FACTOR_PPM_MIN, TaskRule
from policies.tier import AMOUNT_MAX, Allowance, Every, Of, Tier, Unit, Window

# Where TOML has its own ideas: quotes, backslashes, dots, brackets, control characters, other alphabets.
_PRINTABLE = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x00")
_NAME_CHARS = st.sampled_from(string.ascii_letters + string.digits + "-_./:*[]'\"\\#=äß日\U0001f600")
NAMES = st.text(_NAME_CHARS, min_size=1, max_size=12)
LINES = st.text(_PRINTABLE, max_size=20)
PROSE = st.text(st.one_of(_PRINTABLE, st.sampled_from("\n\t\r\x7f\x01")), max_size=30)
SECONDS = st.one_of(st.none(), st.floats(0.001, 86_400))
TOKENS = st.one_of(st.none(), st.integers(1, 10**9))
PATTERNS = st.lists(NAMES, max_size=3).map(tuple)


def _pico() -> st.SearchStrategy[dict[str, int]]:
    each = {kind: st.integers(0, 10**15 if kind in UNIT_KINDS else 10**12) for kind in KINDS}
    return st.fixed_dictionaries({}, optional=each)


RATES = st.builds(
    Rates,
    _pico(),
    st.integers(0, 9 * 10**15),
    st.one_of(st.none(), st.builds(Step, st.integers(1, 10**9), _pico())),
    st.dictionaries(NAMES, _pico(), max_size=2),
)

WINDOWS = st.lists(
    st.builds(
        Window,
        st.integers(0, 9 * 10**15),
        st.sampled_from(get_args(Of)),
        st.sampled_from([1, 60, 90, 3600, 2_592_000, 366 * 86_400]),
        st.one_of(st.none(), NAMES),
        PATTERNS,
    ),
    max_size=4,
    unique_by=lambda window: window.name,
).map(tuple)


@st.composite
def allowances(draw: st.DrawFn) -> Allowance:
    """An allowance; an anchor only where its period has one."""
    every: Every = draw(st.sampled_from(get_args(Every)))
    last = {"week": 7, "month": 31}.get(every, 0)
    anniversary = draw(st.booleans()) if last else False
    anchor = draw(st.one_of(st.none(), st.integers(1, last))) if last and not anniversary else None
    unit: Unit = draw(st.sampled_from(get_args(Unit)))
    amount = draw(st.integers(0, 9 * 10**15 if unit == "usd" else AMOUNT_MAX))
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Kiritimati"]))
    return Allowance(amount, unit, every, zone, anchor, anniversary)


@st.composite
def catalogs(draw: st.DrawFn) -> Declared:
    """A whole catalogue that fits together."""
    upstreams = draw(st.lists(_upstreams(), max_size=3, unique_by=lambda each: each.name))
    models = draw(_models(upstreams)) if upstreams else []
    priced = [model.id for model in models if draw(st.booleans())]
    tiers = draw(st.lists(_tiers(), max_size=3, unique_by=lambda each: each.name))
    rates = {name: draw(RATES) for name in priced}
    chats = [model.id for model in models if model.kind == "chat"]
    tasks = draw(st.lists(_tasks(chats), max_size=3, unique_by=lambda each: each.name))
    return Declared(tuple(upstreams), tuple(models), tuple(tiers), rates, tuple(tasks))


@st.composite
def _tasks(draw: st.DrawFn, chats: list[str]) -> TaskRule:
    """A rule; only what the house pays has a cap."""
    every: Every = draw(st.sampled_from(get_args(Every)))
    cap = draw(st.none() | st.builds(Budget, st.integers(0, 9 * 10**15), st.just(every), st.just("Europe/Berlin")))
    factor = draw(st.integers(FACTOR_PPM_MIN, 1_000_000))
    model = draw(st.sampled_from([None, *chats]))
    return TaskRule(draw(NAMES), "house" if cap else "caller", factor, cap, model)


def _upstreams() -> st.SearchStrategy[Upstream]:
    return st.builds(
        Upstream,
        NAMES,
        st.sampled_from(["http://backend.example/v1", "https://api.example.com"]),
        st.sampled_from(["", "KEY_A"]),
        st.builds(Timeouts, SECONDS, SECONDS, SECONDS, SECONDS),
        st.dictionaries(st.sampled_from(["x-a", "x-b.c"]), st.sampled_from(["", 'a "b" \\', "c"]), max_size=2),
        st.lists(NAMES, max_size=2).map(tuple),
        st.booleans(),
    )


def _models(upstreams: list[Upstream]) -> st.SearchStrategy[list[Model]]:
    model = st.builds(
        Model,
        NAMES,
        st.sampled_from([upstream.name for upstream in upstreams]),
        NAMES,
        LINES,
        PROSE,
        st.sampled_from(get_args(Kind)),
        st.sampled_from([None, "o200k_base"]),
        st.integers(0, 10**9),
        TOKENS,
        TOKENS,
        on_disconnect=st.sampled_from(["abort", "drain"]),
        listed=st.booleans(),
    )
    return st.lists(model, max_size=3, unique_by=lambda each: each.id)


def _tiers() -> st.SearchStrategy[Tier]:
    given: dict[str, Any] = {
        "name": NAMES,
        "title": LINES,
        "models": PATTERNS,
        "windows": WINDOWS,
        "concurrency": st.integers(0, 10**6),
        "allowance": st.one_of(st.none(), allowances()),
        "markup_ppm": st.integers(0, 10**9),
        "max_output": TOKENS,
        "max_context": TOKENS,
        "features": st.lists(st.sampled_from(["*", "tools", "audio"]), max_size=3).map(tuple),
        "unlimited": st.booleans(),
        "upgrade_url": st.sampled_from([None, "https://ai.example.com/pricing?a=b"]),
        "price": st.integers(0, 9 * 10**15),
        "price_every": st.sampled_from(["month", "year"]),
        "tasks_per_request": st.integers(1, 1000),
        "embeddings_per_request": st.integers(1, 1000),
        "embeddings_concurrency": st.none() | st.integers(0, 10**6),
        "listed": st.booleans(),
        "sentences": st.sampled_from([{}, {"fa": {"internal": "وای"}, "en": {"balance_short": "{balance}: {url}"}}]),
    }
    return st.builds(Tier, **given)
