"""A rule for calls nobody typed, as people write it. Pure."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from config.catalog_fields import Line, Name, Usd, Zone, factor_text, ppm
from config.form import Form
from ledger.budget import Budget
from policies.task import FACTOR_PPM_MIN, PPM, Payer, TaskRule
from policies.tier import Every


def _discount(value: int) -> int:
    if not FACTOR_PPM_MIN <= value <= PPM:
        raise ValueError('must be from "0.1" to "1"; what should cost less is for the house to pay, up to a cap')
    return value


Discount = Annotated[
    int,
    BeforeValidator(ppm),
    AfterValidator(_discount),
    PlainSerializer(factor_text, str),
    WithJsonSchema({"title": "Discount", "type": "string", "pattern": r"^(1|0\.[1-9][0-9]{0,5})$"}),
]
"""A part of the price, from a tenth to the whole; millionths inside."""


class CapForm(Form):
    """What the house pays for each user in each period: ``{usd = "0.02", every = "day"}``."""

    usd: Usd = Field(description="Money for each user.", examples=["0.02"])
    every: Every = Field("day", description="How often it begins anew.", examples=["day"])
    zone: Zone = Field("UTC", description="IANA time zone in which periods begin at midnight.", examples=["UTC"])

    @classmethod
    def showing(cls, cap: Budget) -> Self:
        return cls.model_construct(usd=cap.amount, every=cap.every or "day", zone=cap.zone)

    def value(self) -> Budget:
        return Budget(self.usd, self.every, self.zone)


class TaskForm(Form):
    """A rule for calls nobody typed: ``[[tasks]]``."""

    name: Name = Field(
        description="The task's label, or a pattern of labels; * is every task. The closest name counts.",
        examples=["title_generation"],
    )
    pays: Payer = Field("caller", description="Who pays: the caller, or the house up to its cap.", examples=["house"])
    factor: Discount = Field(
        PPM, description="Part of the price that is charged.", examples=["0.5"], json_schema_extra={"default": "1"}
    )
    cap: CapForm | None = Field(
        None,
        description="What the house pays for each user; the caller pays what goes beyond. Needed where the house pays.",
        examples=[{"usd": "0.02", "every": "day"}],
    )
    model: Line | None = Field(
        None, description="Model that answers in place of the one asked for.", examples=["gpt-4o-mini"], min_length=1
    )

    @classmethod
    def showing(cls, rule: TaskRule) -> Self:
        return cls.model_construct(
            name=rule.name,
            pays=rule.pays,
            factor=rule.factor_ppm,
            cap=CapForm.showing(rule.cap) if rule.cap else None,
            model=rule.model,
        )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.pays == "house" and self.cap is None:
            raise ValueError("where the house pays there must be a cap: the label comes from the caller's side")
        if self.pays == "caller" and self.cap is not None:
            raise ValueError("a cap is for what the house pays")
        return self

    def value(self) -> TaskRule:
        return TaskRule(self.name, self.pays, self.factor, self.cap.value() if self.cap else None, self.model)
