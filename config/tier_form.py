"""A tier, its windows and its allowance, as people write them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from config.catalog_fields import PPM, Line, Name, Patterns, Per, Ppm, Tokens, Usd, WebAddress, Yes, Zone, usd
from config.form import Form
from config.phrases import OwnTexts
from ledger.money import format_usd
from policies.tier import AMOUNT_MAX, PER_REQUEST_MAX, Allowance, Every, Of, Tier, Unit, Window

_WINDOWS_MAX = 32
# What a form says in other words than its value.
_OWN_WORDS = ("windows", "allowance", "markup")
_LIMIT_SCHEMA = {
    "title": "Limit",
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX},
        {"type": "string", "pattern": r"^[0-9]{1,7}(\.[0-9]{1,9})?$"},
    ],
}


PerRequest = Annotated[int, Field(strict=True, ge=1, le=PER_REQUEST_MAX)]


class WindowForm(Form):
    """At most so much within any such time: ``{limit = 60, of = "requests", per = "minute"}``."""

    limit: Annotated[Any, WithJsonSchema(_LIMIT_SCHEMA)] = Field(
        description="Requests or tokens as a whole number; USD as text where a cost is limited.", examples=[60]
    )
    of: Of = Field(description="What is counted.", examples=["requests"])
    per: Per = Field(description="A word, or a number of seconds; windows roll.", examples=["minute"])
    route: Line | None = Field(
        None, description="Counts calls of this route alone.", examples=["chat.completions"], min_length=1
    )
    models: Patterns = Field((), description="Counts calls of these models alone, together.", examples=[["gpt-4*"]])

    @classmethod
    def showing(cls, window: Window) -> Self:
        limit = format_usd(window.limit) if window.of == "cost" else window.limit
        return cls.model_construct(
            limit=limit, of=window.of, per=window.seconds, route=window.route, models=window.models
        )

    @model_validator(mode="after")
    def _limit_fits(self) -> Self:
        amount = self.amount()
        if not 0 <= amount <= AMOUNT_MAX:
            raise ValueError(f"the limit must be between 0 and {AMOUNT_MAX}")
        return self

    def amount(self) -> int:
        """Requests, tokens, or nano-USD."""
        if self.of == "cost":
            return usd(self.limit)
        if type(self.limit) is not int:
            raise ValueError(f"the limit of {self.of} must be a whole number")
        return self.limit

    def value(self) -> Window:
        return Window(limit=self.amount(), of=self.of, seconds=self.per, route=self.route, models=self.models)


class AllowanceForm(Form):
    """What a tier gives each period: ``{usd = "1.00", every = "month"}`` or ``{tokens = 1000, every = "month"}``."""

    usd: Usd | None = Field(None, description="Money; either this or tokens.", examples=["5.00"])
    tokens: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)] | None = Field(
        None, description="Tokens of whatever price; either this or usd.", examples=[1000]
    )
    every: Every = Field("month", description="How often.", examples=["month"])
    zone: Zone = Field("UTC", description="IANA time zone in which periods begin at midnight.", examples=["UTC"])
    anchor: Annotated[int, Field(strict=True, ge=1, le=31)] | Literal["anniversary"] | None = Field(
        None,
        description="Day of the month or week (1: Monday) on which a period begins, the first where not said; "
        '"anniversary": the day on which its user got the tier.',
        examples=["anniversary"],
    )

    @classmethod
    def showing(cls, allowance: Allowance) -> Self:
        return cls.model_construct(
            None,
            **{allowance.unit: allowance.amount},
            every=allowance.every,
            zone=allowance.zone,
            anchor="anniversary" if allowance.anniversary else allowance.anchor,
        )

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("must name either usd or tokens")
        return self

    @model_validator(mode="after")
    def _anchor_exists(self) -> Self:
        last = {"week": 7, "month": 31}.get(self.every, 0)
        if last == 0 if self.anchor == "anniversary" else self.anchor is not None and self.anchor > last:
            raise ValueError(f"an allowance by the {self.every} has no anchor {self.anchor}")
        return self

    def value(self) -> Allowance:
        unit: Unit = "usd" if self.tokens is None else "tokens"
        amount = self.usd if self.tokens is None else self.tokens
        anniversary = self.anchor == "anniversary"
        anchor = self.anchor if isinstance(self.anchor, int) else None
        return Allowance(amount or 0, unit, self.every, self.zone, anchor, anniversary)


def _told_apart(windows: tuple[WindowForm, ...]) -> tuple[WindowForm, ...]:
    if len({window.value().name for window in windows}) < len(windows):
        raise ValueError("two of them are of the same kind, length and scope, and would be counted as one")
    return windows


class TierForm(Form):
    """A tier: ``[[tiers]]``."""

    name: Name = Field(description="What users and groups refer to.", examples=["pro"])
    title: Line = Field("", description="What people read.", examples=["Pro"])
    models: Patterns = Field(("*",), description="Models it grants, with wildcards.", examples=[["gpt-4*", "qwen*"]])
    windows: Annotated[tuple[WindowForm, ...], Field(max_length=_WINDOWS_MAX), AfterValidator(_told_apart)] = Field(
        (), description="How fast its users may go.", examples=[[{"limit": 60, "of": "requests", "per": "minute"}]]
    )
    concurrency: int = Field(
        0, strict=True, ge=0, le=1_000_000, description="Calls at once; 0: no limit.", examples=[4]
    )
    allowance: AllowanceForm | None = Field(
        None, description="What is given each period.", examples=[{"usd": "5.00", "every": "month"}]
    )
    markup: Ppm = Field(PPM, description="Factor on every price.", examples=["1.2"], json_schema_extra={"default": "1"})
    max_output: Tokens | None = Field(None, description="Longest answer, in tokens.", examples=[4096])
    max_context: Tokens | None = Field(None, description="Longest conversation, in tokens.", examples=[32_768])
    features: tuple[Literal["*", "tools", "images", "web_search", "audio"], ...] = Field(
        ("*",), max_length=8, description="What calls may use beside text; * is everything.", examples=[["tools"]]
    )
    unlimited: Yes = Field(False, description="Pays nothing; calls are recorded all the same.", examples=[False])
    upgrade_to: Line | None = Field(None, description="Tier that helps who reaches a limit.", examples=["vip"])
    upgrade_url: WebAddress | None = Field(
        None, description="Where people go for it; else the setting's.", examples=["https://ai.example.com/pricing"]
    )
    price: Usd = Field(
        0, description="What it costs its user, shown and not charged.", examples=["20.00"],
        json_schema_extra={"default": "0"},
    )  # fmt: skip
    price_every: Literal["month", "year"] = Field("month", description="What that price is for.", examples=["month"])
    listed: Yes = Field(True, description="Stands in the public price list.", examples=[True])
    sentences: OwnTexts = Field(
        {},
        description="Texts of its own for what its users are told, by language and sentence.",
        examples=[{"en": {"balance_short": "Your {balance} are not enough. Ask the front desk, or see {url}"}}],
    )
    tasks_per_request: PerRequest = Field(
        4, description="Calls nobody typed (titles, tags, …) that one request may bring, counted apart.", examples=[4]
    )
    embeddings_per_request: PerRequest = Field(
        50, description="Embeddings that one request may bring, counted apart, in windows of requests.", examples=[50]
    )
    embeddings_concurrency: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = Field(
        None,
        description="Embeddings at once, the others wait a moment; 0: no limit. Where not said: as many as calls, but "
        "not fewer than 8.",
        examples=[8],
    )

    @classmethod
    def showing(cls, tier: Tier) -> Self:
        return cls.model_construct(
            **{
                name: getattr(tier, name) for name in cls.model_fields if name not in ("windows", "allowance", "markup")
            },
            windows=tuple(map(WindowForm.showing, tier.windows)),
            allowance=AllowanceForm.showing(tier.allowance) if tier.allowance else None,
            markup=tier.markup_ppm,
        )

    def value(self) -> Tier:
        fields = {name: value for name, value in self if name not in _OWN_WORDS}
        windows = tuple(window.value() for window in self.windows)
        allowance = self.allowance.value() if self.allowance else None
        return Tier(**fields, windows=windows, allowance=allowance, markup_ppm=self.markup)
