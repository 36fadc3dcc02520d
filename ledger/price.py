"""What a unit costs, and what a usage costs. Pure.

One ceiling per call, in the house's favour, by less than one nano-USD; ``ceil(a) + ceil(b) >= ceil(a + b)``, so
splitting a call never saves. Usage, price version and tier factor are stored with every charge: recomputing gives
equality.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.usage import KINDS, Usage

PPM = 1_000_000

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


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a model's price: pico-USD per unit by kind (see ``ledger.usage.KINDS``), nano-USD per request."""

    version: int
    model: str
    pico: dict[str, int] = field(default_factory=dict)
    per_request: int = 0

    def rate(self, kind: str) -> int:
        """Pico-USD per unit of this kind, by fall-back; 0 where neither the kind nor its general case is priced."""
        pico = self.pico
        while kind not in pico:
            general = _FALLBACK.get(kind)
            if general is None:
                return 0
            kind = general
        return pico[kind]


def charge_amount(usage: Usage, price: Price, factor_ppm: int) -> int:
    """Nano-USD for this usage: ``ceil(factor x sum(units x pico) / 10^9) + per_request``."""
    pico: int = sum(amount * price.rate(kind) for kind in KINDS if (amount := getattr(usage, kind)))
    return -(-pico * factor_ppm // 10**9) + price.per_request
