"""What a model costs, as people write it. Pure.

Prices are USD per 1M tokens or characters, and per ONE image, second or web search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from config.catalog_fields import Name, Pico, Tokens, UnitPico, Usd
from config.form import Form
from ledger.price import Rates, Step
from ledger.usage import KINDS

_VARIANTS_MAX = 64


class KindsForm(Form):
    """Prices by kind of usage: USD per 1M, but for ONE web search, image or second. A kind without a price is charged
    as the one it is a special case of."""

    input: Pico | None = Field(None, description="Per 1M input tokens.", examples=["0.15"])
    cache_read: Pico | None = Field(None, description="Per 1M input tokens read from a cache.", examples=["0.075"])
    cache_write: Pico | None = Field(None, description="Per 1M tokens written to a cache.", examples=["0.1875"])
    cache_write_1h: Pico | None = Field(None, description="The same, kept for an hour.", examples=["0.30"])
    audio_in: Pico | None = Field(None, description="Per 1M tokens of spoken input.", examples=["10.00"])
    image_in: Pico | None = Field(None, description="Per 1M tokens of pictures read.", examples=["2.50"])
    output: Pico | None = Field(None, description="Per 1M output tokens.", examples=["0.60"])
    reasoning: Pico | None = Field(None, description="Per 1M tokens of hidden reasoning.", examples=["0.60"])
    audio_out: Pico | None = Field(None, description="Per 1M tokens of spoken output.", examples=["20.00"])
    web_searches: UnitPico | None = Field(None, description="For ONE web search.", examples=["0.01"])
    images: UnitPico | None = Field(None, description="For ONE picture made.", examples=["0.04"])
    seconds: UnitPico | None = Field(None, description="For ONE second of sound.", examples=["0.0001"])
    characters: Pico | None = Field(None, description="Per 1M characters spoken.", examples=["15.00"])

    @classmethod
    def showing_kinds(cls, pico: Mapping[str, int], **more: Any) -> Self:
        return cls.model_construct(None, **pico, **more)

    def pico(self) -> dict[str, int]:
        return {kind: rate for kind in KINDS if (rate := getattr(self, kind)) is not None}


class LongContextForm(KindsForm):
    """What the whole call costs once its input has more than so many tokens."""

    above: Tokens = Field(description="Input tokens above which these prices hold.", examples=[200_000])

    @classmethod
    def showing(cls, step: Step) -> Self:
        return cls.showing_kinds(step.pico, above=step.above)

    def value(self) -> Step:
        return Step(self.above, self.pico())


class PricesForm(KindsForm):
    """What a model costs."""

    per_request: Usd = Field(
        0, description="For each call, in USD.", examples=["0.0001"], json_schema_extra={"default": "0"}
    )
    long_context: LongContextForm | None = Field(
        None, description="Other prices for long calls.", examples=[{"above": 200_000, "input": "2.50"}]
    )
    variants: Annotated[dict[Name, KindsForm], Field(max_length=_VARIANTS_MAX)] = Field(
        {},
        description="What differs by the backend's service tier, or by a picture's size and quality.",
        examples=[{"flex": {"input": "0.075"}}],
    )

    @classmethod
    def showing(cls, rates: Rates) -> Self:
        return cls.showing_kinds(
            rates.pico,
            per_request=rates.per_request,
            long_context=LongContextForm.showing(rates.long_context) if rates.long_context else None,
            variants={name: KindsForm.showing_kinds(rates.variants[name]) for name in sorted(rates.variants)},
        )

    def value(self) -> Rates:
        return Rates(
            pico=self.pico(),
            per_request=self.per_request,
            long_context=self.long_context.value() if self.long_context else None,
            variants={name: form.pico() for name, form in self.variants.items()},
        )
