"""How an operator writes the catalogue: TOML tables in, values of ``catalog.py`` out. Touches no file itself.

Money is decimal text in USD; prices are USD per 1M tokens or characters, and per ONE image, second or web search.
Inside, all are whole numbers. Everything wrong is reported at once, each with its path (``models[2].prices.input``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from config.catalog import Declared, Kind, Model, Rates, Timeouts, Upstream, complaints
from config.complaints import Complaint, ComplaintsError, did_you_mean, path_text, plain
from ledger.money import parse_price, parse_unit_price, parse_usd
from ledger.price import Step
from ledger.usage import KINDS
from policies.tier import AMOUNT_MAX, Allowance, Every, Of, Tier, Window

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
_SECONDS_MAX = 366 * 86_400
_PPM = 1_000_000
# Larger than any price asked for today by orders of magnitude, small enough that no product overflows BIGINT.
_PICO_MAX = 10**12
_UNIT_PICO_MAX = 10**15
_VARIANTS_MAX = 64
# Fields by which one entry refers to another.
_LINKS = ("name", "id", "upstream", "fallback", "upgrade_to")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _usd(value: Any) -> int:
    nano = parse_usd(value)
    if nano < 0:
        raise ValueError("must not be negative")
    return nano


def _pico(value: Any) -> int:
    pico = parse_price(value)
    if pico > _PICO_MAX:
        raise ValueError("is beyond a million USD per 1M units")
    return pico


def _unit_pico(value: Any) -> int:
    pico = parse_unit_price(value)
    if pico > _UNIT_PICO_MAX:
        raise ValueError("is beyond a thousand USD for ONE unit (and not for a million of them)")
    return pico


def _ppm(value: Any) -> int:
    try:
        ppm = Decimal(str(value)) * _PPM
        whole = int(ppm)
    except (ArithmeticError, ValueError):
        raise ValueError("must be a decimal factor, like 1.2") from None
    if whole != ppm or not 0 <= whole <= 1000 * _PPM:
        raise ValueError("must be a factor from 0 to 1000 with at most six decimals")
    return whole


def _seconds(value: Any) -> int:
    seconds = _SECONDS.get(value, value) if isinstance(value, str) else value
    if type(seconds) is not int or not 1 <= seconds <= _SECONDS_MAX:
        raise ValueError(f"must be one of {', '.join(_SECONDS)} or a whole number of seconds up to a year")
    return seconds


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):
        raise ValueError("is not a time zone of the IANA list, like Europe/Berlin") from None
    return value


def _web_address(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or re.search(r"\s", value):
        raise ValueError("must be an http:// or https:// address")
    if url.username or url.password:
        raise ValueError("must not hold a password; name the variable that has the key in api_key_env")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not (text.isascii() and text.isprintable()):
            raise ValueError(f"the value of {name} must be printable ASCII")
    return {name.lower(): text for name, text in value.items()}


Usd = Annotated[int, BeforeValidator(_usd)]
Pico = Annotated[int, BeforeValidator(_pico)]
UnitPico = Annotated[int, BeforeValidator(_unit_pico)]
Ppm = Annotated[int, BeforeValidator(_ppm)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s]+$")]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000)]
Patience = Annotated[float | None, Field(gt=0, le=86_400)]
WebAddress = Annotated[str, AfterValidator(_web_address)]


class Form(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TimeoutsForm(Form):
    connect_s: Patience = None
    first_byte_s: Patience = None
    idle_s: Patience = None
    total_s: Patience = None


class UpstreamForm(Form):
    """``[[upstreams]]``"""

    name: Name
    base_url: WebAddress
    api_key_env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    timeouts: TimeoutsForm = TimeoutsForm()
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    capabilities: tuple[str, ...] = ()
    allow_private: bool = False

    def value(self) -> Upstream:
        fields = dict(self) | {"base_url": self.base_url.rstrip("/"), "timeouts": Timeouts(**dict(self.timeouts))}
        return Upstream(**fields)


class KindsForm(Form):
    """``{input = "0.15", images = "0.04"}``: a field for each kind of usage (``ledger.usage.KINDS``)."""

    input: Pico | None = None
    cache_read: Pico | None = None
    cache_write: Pico | None = None
    cache_write_1h: Pico | None = None
    audio_in: Pico | None = None
    image_in: Pico | None = None
    output: Pico | None = None
    reasoning: Pico | None = None
    audio_out: Pico | None = None
    web_searches: UnitPico | None = None
    images: UnitPico | None = None
    seconds: UnitPico | None = None
    characters: Pico | None = None

    def pico(self) -> dict[str, int]:
        return {kind: rate for kind in KINDS if (rate := getattr(self, kind)) is not None}


class LongContextForm(KindsForm):
    """``{above = 200_000, input = "2.50", output = "15.00"}``"""

    above: Tokens

    def value(self) -> Step:
        return Step(self.above, self.pico())


Variants = Annotated[dict[Name, KindsForm], Field(max_length=_VARIANTS_MAX)]


class PricesForm(KindsForm):
    """``{input = "0.15", output = "0.60", per_request = "0", long_context = {…}, variants = {flex = {…}}}``"""

    per_request: Usd = 0
    long_context: LongContextForm | None = None
    variants: Variants = {}

    def value(self) -> Rates:
        return Rates(
            pico=self.pico(),
            per_request=self.per_request,
            long_context=self.long_context.value() if self.long_context else None,
            variants={name: form.pico() for name, form in self.variants.items()},
        )


class ModelForm(Form):
    """``[[models]]``"""

    id: Name
    upstream: Name
    upstream_model: str = ""
    title: str = ""
    description: str = ""
    kind: Kind = "chat"
    # The vocabularies that are there offline; another model is counted by the nearest one and its factor.
    tokenizer: Literal["o200k_base", "cl100k_base"] | None = None
    tokenizer_factor: Ppm = _PPM
    context: Tokens | None = None
    max_output: Tokens | None = None
    fallback: str | None = None
    on_disconnect: Literal["abort", "drain"] = "abort"
    prices: PricesForm | None = None

    def rates(self) -> Rates | None:
        """None where no price is declared: such a model is refused, not free."""
        return self.prices.value() if self.prices else None

    def value(self) -> Model:
        fields = {name: value for name, value in self if name not in ("prices", "tokenizer_factor")}
        fields["upstream_model"] = self.upstream_model or self.id
        return Model(**fields, tokenizer_factor_ppm=self.tokenizer_factor)


class WindowForm(Form):
    """``{limit = 60, of = "requests", per = "minute"}``; the limit of a cost is USD."""

    limit: Any
    of: Of
    per: Annotated[int, BeforeValidator(_seconds)]
    route: str | None = None
    models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _limit_fits(self) -> WindowForm:
        amount = self.amount()
        if not 0 <= amount <= AMOUNT_MAX:
            raise ValueError(f"the limit must be between 0 and {AMOUNT_MAX}")
        return self

    def amount(self) -> int:
        """Requests, tokens, or nano-USD."""
        if self.of == "cost":
            return _usd(self.limit)
        if type(self.limit) is not int:
            raise ValueError(f"the limit of {self.of} must be a whole number")
        return self.limit

    def value(self) -> Window:
        return Window(limit=self.amount(), of=self.of, seconds=self.per, route=self.route, models=self.models)


class AllowanceForm(Form):
    """``{usd = "1.00", every = "month", zone = "UTC"}``"""

    usd: Usd
    every: Every = "month"
    zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    anchor: Annotated[int, Field(ge=1, le=31)] | None = None

    @model_validator(mode="after")
    def _anchor_exists(self) -> AllowanceForm:
        last = {"week": 7, "month": 31}.get(self.every, 0)
        if self.anchor is not None and self.anchor > last:
            raise ValueError(f"an allowance by the {self.every} has no anchor {self.anchor}")
        return self

    def value(self) -> Allowance:
        return Allowance(amount=self.usd, every=self.every, zone=self.zone, anchor=self.anchor)


class TierForm(Form):
    """``[[tiers]]``"""

    name: Name
    title: str = ""
    models: tuple[str, ...] = ("*",)
    windows: Annotated[tuple[WindowForm, ...], Field(max_length=32)] = ()
    concurrency: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    allowance: AllowanceForm | None = None
    markup: Ppm = _PPM
    max_output: Tokens | None = None
    max_context: Tokens | None = None
    features: tuple[Literal["*", "tools", "images", "web_search", "audio"], ...] = ("*",)
    unlimited: bool = False
    upgrade_to: str | None = None
    upgrade_url: WebAddress | None = None
    price: Usd = 0

    def value(self) -> Tier:
        fields = {name: value for name, value in self if name not in ("windows", "allowance", "markup")}
        windows = tuple(window.value() for window in self.windows)
        allowance = self.allowance.value() if self.allowance else None
        return Tier(**fields, windows=windows, allowance=allowance, markup_ppm=self.markup)


_PLACES: dict[str, type[Form]] = {
    "timeouts": TimeoutsForm,
    "prices": PricesForm,
    "long_context": LongContextForm,
    "variants": KindsForm,
    "windows": WindowForm,
    "allowance": AllowanceForm,
}


def read_catalog(document: Mapping[str, Any], *, default_tier: str | None = None) -> Declared:
    """The catalogue in the file's tables. ``default_tier`` must be among the tiers, where any are declared.

    Raises ComplaintsError with everything that is wrong.
    """
    wrong: list[Complaint] = []
    upstreams = _read("upstreams", UpstreamForm, document, wrong)
    models = _read("models", ModelForm, document, wrong)
    tiers = _read("tiers", TierForm, document, wrong)
    declared = Declared(
        upstreams=tuple(form.value() for form in upstreams),
        models=tuple(form.value() for form in models),
        tiers=tuple(form.value() for form in tiers),
        rates={form.id: rates for form in models if (rates := form.rates()) is not None},
    )
    told = {complaint.where for complaint in wrong}
    wrong += (complaint for complaint in complaints(declared) if complaint.where not in told)
    if default_tier and tiers and default_tier not in {tier.name for tier in tiers}:
        wrong.append(Complaint("tiers", f"the default tier {default_tier} is not among them"))
    if wrong:
        raise ComplaintsError(wrong)
    return declared


F = TypeVar("F", UpstreamForm, ModelForm, TierForm)


def _read(table: str, form: type[F], document: Mapping[str, Any], wrong: list[Complaint]) -> list[F]:
    entries = document.get(table, [])
    if not isinstance(entries, list):
        wrong.append(Complaint(table, f"must be written as [[{table}]]"))
        return []
    read = []
    for index, entry in enumerate(entries):
        try:
            read.append(form.model_validate(entry))
        except ValidationError as error:
            wrong += _told(error, (table, index), form)
            read.append(_stand_in(form, entry))
    return read


def _stand_in(form: type[F], entry: Any) -> F:
    """A broken entry's place: what others refer to stays known, so that one mistake is not told as two."""
    given = entry if isinstance(entry, dict) else {}
    links = {name: given[name] for name in _LINKS if isinstance(given.get(name), str) and given[name]}
    blank = dict.fromkeys(("name", "id", "upstream", "base_url"), "?")
    return form.model_construct(
        None, **{name: text for name, text in (blank | links).items() if name in form.model_fields}
    )


def _told(error: ValidationError, place: tuple[str, int], form: type[Form]) -> Iterator[Complaint]:
    for entry in error.errors(include_url=False, include_input=False):
        what, location = plain(entry), entry["loc"]
        if what is not None:
            if entry["type"] == "extra_forbidden":
                what += did_you_mean(str(location[-1]), _known_at(location, form))
            yield Complaint(path_text((*place, *location)), what)


def _known_at(location: tuple[str | int, ...], form: type[Form]) -> Iterable[str]:
    places = [_PLACES[step] for step in location[:-1] if isinstance(step, str) and step in _PLACES]
    return (places or [form])[-1].model_fields
