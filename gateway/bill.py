"""The arithmetic of one call's money: what it may cost, what a hold covers, what it did cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.price import Price, charge_amount
from ledger.usage import Usage

_UNBOUNDED = 2**53


@dataclass(frozen=True, slots=True)
class Bill:
    """One call at one price: ``factor_ppm`` is the tier's, ``input_tokens`` what we think its request holds."""

    price: Price
    factor_ppm: int
    input_tokens: int

    def amount(self, usage: Usage) -> int:
        """Nano-USD this usage costs."""
        return charge_amount(usage, self.price, self.factor_ppm)

    def expected(self, output_tokens: int) -> int:
        """Nano-USD of the estimated input and this much output, at the dearer of the two output prices."""
        pico = self.input_tokens * self.price.rate("input") + output_tokens * self._output_rate
        return -(-pico * self.factor_ppm // 10**9) + self.price.per_request

    def covered(self, amount: int) -> int:
        """Output tokens that ``amount`` nano-USD covers beside the estimated input; never negative."""
        per_token = self._output_rate * self.factor_ppm
        if not per_token:
            return _UNBOUNDED
        left = (amount - self.price.per_request) * 10**9 - self.input_tokens * self.price.rate("input") * self.factor_ppm
        return max(0, left // per_token)

    @property
    def _output_rate(self) -> int:
        return max(self.price.rate("output"), self.price.rate("reasoning"))

