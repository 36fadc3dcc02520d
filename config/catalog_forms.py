"""Upstreams and models as people write them, in the file and over the admin API alike: one form for each. Pure.

Whether entries fit each other is said by ``catalog.complaints``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from config.catalog import Kind, Model, Rates, Timeouts, Upstream
from config.catalog_fields import (
    PPM,
    BaseAddress,
    Headers,
    Line,
    Name,
    Patience,
    Ppm,
    Prose,
    Tokens,
    Variable,
    Yes,
)
from config.form import Form
from config.places import literal_refusal
from config.price_form import PricesForm
from config.vocabularies import VocabularyName

# What a form says in other words than its value.
_OWN_WORDS = ("upstream_model", "tokenizer_factor", "prices")


class TimeoutsForm(Form):
    """An upstream's own patience; what is not said is as in the settings."""

    connect_s: Patience = Field(None, description="Seconds to open a connection.", examples=[5])
    first_byte_s: Patience = Field(None, description="Seconds until its reply begins.", examples=[120])
    idle_s: Patience = Field(None, description="Seconds between two pieces of a reply.", examples=[60])
    total_s: Patience = Field(None, description="Seconds a call may last; at most the setting.", examples=[600])


class UpstreamForm(Form):
    """A backend: ``[[upstreams]]``."""

    name: Name = Field(description="What models call it.", examples=["openai"])
    base_url: BaseAddress = Field(
        description="Address before /chat/completions and the like.", examples=["https://api.openai.com/v1"]
    )
    api_key_env: Variable = Field(
        "", description="Environment variable that holds its key; the key itself is never stored.", examples=["KEY_A"]
    )
    timeouts: TimeoutsForm = Field(
        TimeoutsForm.model_construct(),
        description="Its own timeouts over the settings'.",
        examples=[{"first_byte_s": 60}],
    )
    headers: Headers = Field({}, description="Sent with every call to it; no keys.", examples=[{"x-team": "chat"}])
    capabilities: Annotated[tuple[Name, ...], Field(max_length=32)] = Field(
        (), description='What it can do; "anthropic": it speaks that dialect.', examples=[["anthropic"]]
    )
    allow_private: Yes = Field(
        False, validate_default=True, description="Its address may lie in a private network.", examples=[False]
    )

    @field_validator("allow_private")
    @classmethod
    def _reaches(cls, value: bool, info: ValidationInfo) -> bool:
        """An address that is written out can be judged at once; where a name leads is asked elsewhere."""
        if reason := literal_refusal(info.data.get("base_url", ""), private=value):
            raise ValueError(f"does not let base_url be asked: {reason}")
        return value

    @classmethod
    def showing(cls, upstream: Upstream) -> Self:
        fields = {name: getattr(upstream, name) for name in UpstreamForm.model_fields}
        timeouts = {name: getattr(upstream.timeouts, name) for name in TimeoutsForm.model_fields}
        return cls.model_construct(**fields | {"timeouts": TimeoutsForm.model_construct(**timeouts)})

    def value(self) -> Upstream:
        return Upstream(**dict(self) | {"timeouts": Timeouts(**dict(self.timeouts))})


class ModelForm(Form):
    """A model: ``[[models]]``."""

    id: Name = Field(description="What callers name.", examples=["gpt-4o-mini"])
    upstream: Name = Field(description="The backend that serves it.", examples=["openai"])
    upstream_model: Line = Field("", description="Its name there; the id where empty.", examples=["gpt-4o-mini"])
    title: Line = Field("", description="What people read.", examples=["GPT-4o mini"])
    description: Prose = Field("", description="More of what people read.", examples=["Small and quick."])
    kind: Kind = Field("chat", description="What it does; each kind has its routes.", examples=["chat"])
    tokenizer: VocabularyName | None = Field(
        None, description="Vocabulary by which its tokens are counted.", examples=["o200k_base"]
    )
    tokenizer_factor: Ppm = Field(
        PPM,
        description="How many tokens it makes of one of that vocabulary.",
        examples=["1.08"],
        json_schema_extra={"default": "1"},
    )
    context: Tokens | None = Field(None, description="Its context, in tokens.", examples=[128_000])
    max_output: Tokens | None = Field(None, description="Its longest answer, in tokens.", examples=[16_384])
    fallback: Line | None = Field(
        None, description="Model that answers when this one's backend fails at once.", examples=["gpt-4o"]
    )
    on_disconnect: Literal["abort", "drain"] = Field(
        "abort", description="When the caller leaves: end the call, or read it to its end.", examples=["abort"]
    )
    listed: Yes = Field(True, description="Stands in the public price list.", examples=[True])
    prices: PricesForm | None = Field(
        None, description="Without any the model is refused.", examples=[{"input": "0.15", "output": "0.60"}]
    )

    @classmethod
    def showing(cls, model: Model, rates: Rates | None) -> Self:
        return cls.model_construct(
            **{name: getattr(model, name) for name in ModelForm.model_fields if name not in _OWN_WORDS},
            upstream_model=model.upstream_model if model.upstream_model != model.id else "",
            tokenizer_factor=model.tokenizer_factor_ppm,
            prices=None if rates is None else PricesForm.showing(rates),
        )

    def rates(self) -> Rates | None:
        """None where no price is declared: such a model is refused, not free."""
        return self.prices.value() if self.prices else None

    def value(self) -> Model:
        return Model(
            **{name: value for name, value in self if name not in _OWN_WORDS},
            upstream_model=self.upstream_model or self.id,
            tokenizer_factor_ppm=self.tokenizer_factor,
        )
