"""What a unit costs, and what a usage costs. Pure.

One ceiling per call, in the house's favour, by less than one nano-USD; ``ceil(a) + ceil(b) >= ceil(a + b)``, so
splitting a call never saves (but for a long-context step, which is there to make one long call dearer than two short
ones). Usage, price version, variant and tier factor are stored with every charge: recomputing gives equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import mul
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import astuple

from ledger.usage import KINDS, TOKEN_KINDS, Usage

PPM = 1_000_000
_INPUT, _OUTPUT, _REASONING = (KINDS.index(kind) for kind in ("input", "output", "reasoning"))

# A kind that has no price of its own is charged as the kind it is a special case of.
_FALLBACK = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_in": "input",
    "image_in": "input",
    "reasoning": "output",
    "audio_out": "output",
}

Amount = Annotated[int, Meta(ge=0)]
"""Never below zero: a stored document that says otherwise is refused where it is read."""


class Step(Struct, frozen=True):
    """Prices of a long context: pico-USD per unit by kind, of the whole call once its input has more than ``above``
    tokens. Kinds not named: see ``Price.rate``."""

    above: Amount
    pico: dict[str, Amount]


class Rates(Struct, frozen=True, omit_defaults=True):
    """What a model costs, without a version, as it is stored: pico-USD per unit by kind, nano-USD per request.

    ``variants``: by the backend's service tier ("flex", "priority", "batch") or an image's size and quality
    ("1024x1024/hd"), the prices that differ from ``pico``.
    """

    pico: dict[str, Amount] = {}
    per_request: Amount = 0
    long_context: Step | None = None
    variants: dict[str, dict[str, Amount]] = {}


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a model's price; the fields are those of ``Rates``. Raises ValueError for a negative number.

    ``plain``: the prices of all ``KINDS`` in their order, where neither a variant nor the context changes any.
    """

    version: int
    model: str
    pico: dict[str, int] = field(default_factory=dict)
    per_request: int = 0
    long_context: Step | None = None
    variants: dict[str, dict[str, int]] = field(default_factory=dict)
    plain: tuple[int, ...] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        tables = [self.pico, *self.variants.values(), *([self.long_context.pico] if self.long_context else [])]
        if self.per_request < 0 or any(rate < 0 for table in tables for rate in table.values()):
            raise ValueError(f"the price of {self.model} (version {self.version}) has a number below zero")
        if not (self.variants or self.long_context):
            object.__setattr__(self, "plain", tuple(_base(self.pico, kind) for kind in KINDS))

    @classmethod
    def of(cls, version: int, model: str, rates: Rates) -> Price:
        return cls(version, model, rates.pico, rates.per_request, rates.long_context, rates.variants)

    @property
    def rates(self) -> Rates:
        return Rates(self.pico, self.per_request, self.long_context, self.variants)

    def known_variant(self, variant: str) -> str:
        """The name under which this price knows the variant: as it is, else without what follows its last "/", else ""
        (the base)."""
        if variant in self.variants:
            return variant
        general = variant.rpartition("/")[0]
        return general if general in self.variants else ""

    def rate(self, kind: str, variant: str = "", input_tokens: int = 0) -> int:
        """Pico-USD per unit of this kind, in a call of this variant with so much input; 0 where neither the kind nor
        its general case is priced.

        What a variant or the step names is charged as it says. A kind it does not name keeps the base price, but rises
        in the proportion in which its general kind rises there: with ``priority`` at twice the input, cached tokens
        cost twice as much, too. (One that has no price of its own at all is charged as its general kind is there.) A
        long call in a variant pays the variant's price, raised in the proportion in which the step raises the base
        price. So a discount that nobody named is not given, and a surcharge is not forgotten.
        """
        base = _base(self.pico, kind)
        if self.plain is not None:
            return base
        step, name = self.long_context, self.known_variant(variant)
        stepped = _rate(self.pico, step.pico, kind) if step and input_tokens > step.above else base
        if not name:
            return stepped
        return _raised(_rate(self.pico, self.variants[name], kind), base, stepped)

    def pico_of(self, usage: Usage, variant: str = "") -> int:
        """What these units cost in pico-USD, before factor and request price."""
        if self.plain is not None:
            taken, given = usage.input, usage.output
            if usage == Usage(taken, output=given):  # as most are: eleven parts of nothing need no arithmetic
                return taken * self.plain[_INPUT] + given * self.plain[_OUTPUT]
            return sum(map(mul, astuple(usage), self.plain))
        tokens = usage.input_tokens
        return sum(amount * self.rate(kind, variant, tokens) for kind in KINDS if (amount := getattr(usage, kind)))

    def dearer_output(self, usage: Usage) -> int:
        """The dearer of the two output prices beside this input, in pico-USD per token."""
        if self.plain is not None:
            return max(self.plain[_OUTPUT], self.plain[_REASONING])
        tokens = usage.input_tokens
        return max(self.rate("output", "", tokens), self.rate("reasoning", "", tokens))


def charge_amount(usage: Usage, price: Price, factor_ppm: int, variant: str = "") -> int:
    """Nano-USD for this usage: ``ceil(factor x sum(units x pico) / 10^9) + per_request``."""
    return -(-price.pico_of(usage, variant) * factor_ppm // 10**9) + price.per_request


def _base(pico: Mapping[str, int], kind: str) -> int:
    while kind not in pico:
        general = _FALLBACK.get(kind)
        if general is None:
            return 0
        kind = general
    return pico[kind]


def _rate(base: Mapping[str, int], over: Mapping[str, int], kind: str) -> int:
    """The price of a kind in ``base`` with the prices of ``over`` in front of it."""
    if kind in over:
        return over[kind]
    general = _FALLBACK.get(kind)
    if general is None:
        return base.get(kind, 0)
    raised = _rate(base, over, general)
    return _raised(base[kind], _base(base, general), raised) if kind in base else raised


def _raised(rate: int, before: int, after: int) -> int:
    """``rate`` in the proportion of ``before`` to ``after``, rounded up; never lower than it was."""
    if after <= before:
        return rate
    return -(-rate * after // before) if before else max(rate, after)


BY_AMOUNT = 0
"""In the place of a price version: a charge from outside that was asked for by its amount."""

BY_TOKENS = -1
TOKEN_PRICE = Price(BY_TOKENS, "", dict.fromkeys(TOKEN_KINDS, 1000))
"""What a token wallet pays: at a factor of 1 000 000, one unit for one token of any kind."""
