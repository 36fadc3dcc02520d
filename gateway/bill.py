"""The arithmetic of one call's money: what it may cost, what a hold covers, what it did cost. Pure."""

from __future__ import annotations

from ledger.price import Price, charge_amount
from ledger.usage import Usage

_UNBOUNDED = 2**53


class Bill:
    """One call at one price: ``factor_ppm`` is the tier's, ``foreseen`` what we think the request itself will consume
    (input tokens, characters, images, seconds; no output tokens)."""

    __slots__ = ("_base", "_output", "factor_ppm", "foreseen", "price")

    def __init__(self, price: Price, factor_ppm: int, foreseen: Usage) -> None:
        self.price = price
        self.factor_ppm = factor_ppm
        self.foreseen = foreseen
        # Both are asked for many times in a call's life, in pico-USD: the request itself, and the dearer output token.
        self._base = price.pico_of(foreseen)
        self._output = price.dearer_output(foreseen)

    @property
    def input_tokens(self) -> int:
        return self.foreseen.input_tokens

    def amount(self, usage: Usage, variant: str = "") -> int:
        """Nano-USD this usage costs, at the price of this variant."""
        return charge_amount(usage, self.price, self.factor_ppm, variant)

    def expected(self, output_tokens: int) -> int:
        """Nano-USD of what is foreseen and this much output, at the dearer of the two output prices."""
        return -(-(self._base + output_tokens * self._output) * self.factor_ppm // 10**9) + self.price.per_request

    def covered(self, amount: int) -> int:
        """Output tokens that ``amount`` nano-USD covers beside what is foreseen; never negative."""
        per_token = self._output * self.factor_ppm
        if not per_token:
            return _UNBOUNDED
        left = (amount - self.price.per_request) * 10**9 - self._base * self.factor_ppm
        return max(0, left // per_token)
