"""Reads the widely used JSON price list (``model_prices_and_context_window.json``: USD per token, by model). Pure.

Numbers are taken as the decimal text that stands in the file, never as floats. What is not a whole pico-USD is rounded
up; what is below zero or absurd refuses its model by name; what the list says and our prices cannot is told, so that
nobody believes it is charged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from config.catalog import Model, Rates
from ledger.price import Price, Step
from ledger.usage import UNIT_KINDS

_MODELS_MAX = 100_000
_PICO, _NANO = 12, 9  # decimal places
# Dearer than anything on offer by an order of magnitude: a price per 1M written where one token is meant is beyond it.
_USD_MAX = Decimal("0.01")
_UNIT_USD_MAX = Decimal(100)
_ANY_USD = Decimal("Infinity")
_FACTOR_MAX = Decimal(1000)
_NAN = Decimal("NaN")
_NO_MODELS = frozenset(("sample_spec", "fallback_generalizations"))

_KINDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "input_cost_per_token_cache_hit": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_in",
    "output_cost_per_audio_token": "audio_out",
    "input_cost_per_image_token": "image_in",
    "output_cost_per_image": "images",
    "input_cost_per_second": "seconds",
    "output_cost_per_second": "seconds",
    "input_cost_per_character": "characters",
}
# Of an image model, whose output is the picture.
_IMAGE_KINDS = {"output_cost_per_image_token": "output", "input_cost_per_image": "images"}
_IMAGE_MODES = ("image_generation", "image_edit")
_PER_REQUEST = ("input_cost_per_query", "input_cost_per_request")
_SEARCHES = "search_context_cost_per_query"
_TIERS = "tiered_pricing"
_VARIANTS = {"_batches": "batch", "_flex": "flex", "_priority": "priority"}
# Factors on all prices of a model; of these, replies name the speed.
_FACTORS = "provider_specific_entry"
_FAST = "fast"
# What a key has in its name that says something of a price.
_TELLING = ("cost", "pricing", "multiplier")
_KEY = re.compile(r"(?P<stem>\w+?)(?:_above_(?P<above>[0-9]{1,6})k_tokens)?(?P<variant>_batches|_flex|_priority)?")
# Without these prices a call would be free: the model is refused. Other modes need one price, whichever it is.
_NEEDED = {
    **dict.fromkeys(("chat", "completion", "responses", ""), ("input", "output")),
    "embedding": ("input",),
}


class PriceListError(ValueError):
    """The file is no price list; the message says why."""


class Listed(NamedTuple):
    """What the list says of one model, and what a reviewer should know (rounded prices, prices that are not read)."""

    rates: Rates
    notes: tuple[str, ...] = ()


class PriceList(NamedTuple):
    """The file's models by the name they have there, and why others are not among them: they are ``refused``, for what
    is said of them is wrong, or ``unpriced``, for nothing is said by which a call could be charged here."""

    models: dict[str, Listed]
    refused: dict[str, str]
    unpriced: dict[str, str]


def read_price_list(data: bytes) -> PriceList:
    """Every model of the file. Raises PriceListError when it is not a JSON object of models."""
    try:
        entries = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PriceListError(f"is not a JSON object of models: {error}") from None
    if len(entries) > _MODELS_MAX:
        raise PriceListError(f"has more than {_MODELS_MAX} models")
    read = PriceList({}, {}, {})
    for name, raw in entries.items():
        if name not in _NO_MODELS:
            _enter(read, name if name.isprintable() else ascii(name), raw)
    return read


def _enter(read: PriceList, name: str, raw: msgspec.Raw) -> None:
    try:
        read.models[name] = _listed(_decoder.decode(raw))
    except _Unpriced as error:
        read.unpriced[name] = str(error)
    except _Wrong as error:
        read.refused[name] = str(error)
    except (msgspec.MsgspecError, RecursionError, ArithmeticError, UnicodeDecodeError):
        read.refused[name] = "is not an object with decimal numbers"


def names_of(model: Model) -> tuple[str, ...]:
    """The names a list may have for a model of the catalogue, the surest first."""
    return tuple(dict.fromkeys((f"{model.upstream}/{model.upstream_model}", model.upstream_model, model.id)))


def merged(before: Rates | None, listed: Rates) -> Rates:
    """``listed``, and of the price before what a list cannot say: the part per request, and variants of images."""
    if before is None:
        return listed
    ours = {name: pico for name, pico in before.variants.items() if name not in (*_VARIANTS.values(), _FAST)}
    per_request = listed.per_request or before.per_request
    return msgspec.structs.replace(listed, per_request=per_request, variants=ours | listed.variants)


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class _Wrong(ValueError):
    """Why a model is refused."""


class _Unpriced(ValueError):
    """Why a model's calls could not be charged."""


class _Place(NamedTuple):
    """Which price a key of an entry is: its kind, in a variant (or ""), above so many tokens (or 0)."""

    kind: str
    variant: str
    above: int


def _listed(entry: Mapping[str, Any]) -> Listed:
    """Raises _Wrong or _Unpriced, saying why the model cannot be taken."""
    mode = entry.get("mode") or ""
    notes: list[str] = []
    found: dict[_Place, int] = {}
    for place, pico in _prices(entry, mode, notes):
        found[place] = max(pico, found.get(place, 0))
    base = _table(found, "", 0)
    variants = {name: _table(found, name, 0) for name in _VARIANTS.values()}
    variants[_FAST] = _fast(entry, base, notes)
    rates = Rates(
        pico=base,
        per_request=max(_nano(entry, key, notes) for key in _PER_REQUEST),
        long_context=_step(found),
        variants={name: table for name, table in variants.items() if table},
    )
    _refuse_free(rates, mode if isinstance(mode, str) else "")
    return Listed(rates, (*notes, *_differing(rates, found), *_nothing(rates)))


def _prices(entry: Mapping[str, Any], mode: Any, notes: list[str]) -> Iterator[tuple[_Place, int]]:
    kinds = _KINDS | _IMAGE_KINDS if mode in _IMAGE_MODES else _KINDS
    for key, value in entry.items():
        if key in _PER_REQUEST or value is None:
            continue
        if key == _SEARCHES:
            yield _Place("web_searches", "", 0), _dearest(value, notes)
        elif key == _TIERS and _by_length(value):
            for tier in value:
                yield from _tier(tier, mode, notes)
        elif (match := _KEY.fullmatch(key)) is not None and match["stem"] in kinds:
            kind, variant = kinds[match["stem"]], _VARIANTS.get(match["variant"] or "", "")
            yield _Place(kind, variant, int(match["above"] or 0) * 1000), _pico(key, value, kind, notes)
        elif any(word in key for word in _TELLING) and _says(key, value):
            notes.append(f"{key} is not read: nothing here is charged by it")


def _says(key: str, value: Any) -> bool:
    return bool(_number(key, value, _ANY_USD) if type(value) in (int, Decimal) else value)


def _dearest(by_size: Any, notes: list[str]) -> int:
    """The price of a web search; which size was searched is not told to us."""
    sizes = by_size if isinstance(by_size, dict) else {"": by_size}
    each = [_pico(f"{_SEARCHES} {size}".strip(), usd, "web_searches", notes) for size, usd in sizes.items()]
    return max(each, default=0)


def _by_length(tiers: Any) -> bool:
    """Whether these are prices of units by the length of the input, and not requests by the number of results."""
    each = tiers if isinstance(tiers, list) else [tiers]
    return all(isinstance(tier, dict) and "range" in tier and not tier.keys() & {*_PER_REQUEST} for tier in each)


def _tier(tier: Mapping[str, Any], mode: Any, notes: list[str]) -> Iterator[tuple[_Place, int]]:
    """Prices above so many tokens; above none they are the base."""
    ends = tier["range"]
    above = _number(f"{_TIERS} range", ends[0] if isinstance(ends, list) and ends else ends, Decimal(10**9))
    for place, pico in _prices(tier, mode, notes):
        yield place._replace(above=int(above)), pico


def _fast(entry: Mapping[str, Any], base: Mapping[str, int], notes: list[str]) -> dict[str, int]:
    """The prices of a call that was served fast; other factors on the price are told."""
    given = entry.get(_FACTORS)
    factors = {name: by for name, by in given.items() if type(by) in (int, Decimal)} if isinstance(given, dict) else {}
    notes += (f"{_FACTORS} {name} is not read: nothing here is charged by it" for name in factors if name != _FAST)
    if _FAST not in factors:
        return {}
    by = _number(f"{_FACTORS} {_FAST}", factors[_FAST], _FACTOR_MAX)
    return {kind: math.ceil(rate * by) for kind, rate in base.items() if kind not in UNIT_KINDS}


def _table(found: Mapping[_Place, int], variant: str, above: int) -> dict[str, int]:
    return {place.kind: pico for place, pico in found.items() if (place.variant, place.above) == (variant, above)}


def _step(found: Mapping[_Place, int]) -> Step | None:
    steps = sorted({place.above for place in found if place.above and not place.variant})
    if len(steps) > 1:
        raise _Wrong(f"has several long-context steps ({', '.join(map(str, steps))}), and a price can have one")
    return Step(steps[0], _table(found, "", steps[0])) if steps else None


def _refuse_free(rates: Rates, mode: str) -> None:
    missing = [kind for kind in _NEEDED.get(mode, ()) if kind not in rates.pico]
    if missing:
        raise _Unpriced(f"has no price for {' and '.join(missing)}")
    if not rates.pico and not rates.per_request:
        raise _Unpriced("has no price that is charged here")


def _differing(rates: Rates, found: Mapping[_Place, int]) -> Iterator[str]:
    """Long calls in a variant are reckoned in proportion; where the list says otherwise, the reviewer is told."""
    price = Price.of(0, "", rates)
    for place, pico in found.items():
        if place.variant and place.above:
            reckoned = price.rate(place.kind, place.variant, place.above + 1)
            if reckoned != pico:
                side = "below" if reckoned < pico else "above"
                yield f"{place.variant} {place.kind} above {place.above} tokens is reckoned {side} the list's price"


def _nothing(rates: Rates) -> tuple[str, ...]:
    return () if rates.per_request or any(rates.pico.values()) else ("is listed as free",)


def _nano(entry: Mapping[str, Any], key: str, notes: list[str]) -> int:
    return _whole(key, _number(key, entry.get(key) or 0, _UNIT_USD_MAX), _NANO, notes)


def _pico(key: str, value: Any, kind: str, notes: list[str]) -> int:
    return _whole(key, _number(key, value, _UNIT_USD_MAX if kind in UNIT_KINDS else _USD_MAX), _PICO, notes)


def _number(key: str, value: Any, most: Decimal) -> Decimal:
    try:
        usd = Decimal(value) if type(value) in (int, Decimal, str) else _NAN
    except InvalidOperation:
        usd = _NAN
    if not usd.is_finite():
        raise _Wrong(f"{key} is not a number")
    if usd < 0:
        raise _Wrong(f"{key} is below zero")
    if usd > most:
        raise _Wrong(f"{key} is absurd: {value} for one, where at most {most} is believed")
    return usd


def _whole(key: str, usd: Decimal, places: int, notes: list[str]) -> int:
    scaled = usd.scaleb(places)
    whole = int(scaled.to_integral_value(ROUND_CEILING))
    if whole != scaled:
        notes.append(f"{key} is rounded up: {usd} USD is not a whole {'pico' if places == _PICO else 'nano'}-USD")
    return whole
