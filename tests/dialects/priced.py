"""The prices of `case.price` as an operator writes them: a catalogue for a whole Farebox, a model of each kind."""

from __future__ import annotations

from decimal import Decimal

from gateway.surfaces import SURFACES
from ledger.usage import UNIT_KINDS
from tests.dialects.case import FACTOR_PPM, price

TIER = "primed"


def model_of(kind: str) -> str:
    """The model of this kind."""
    return f"prime-{kind}"


def catalog() -> str:
    """TOML: the models, and a tier with a factor of its own."""
    prices = _prices()
    models = [
        f'[[models]]\nid = "{model_of(kind)}"\nupstream = "main"\nkind = "{kind}"\nprices = {prices}\n'
        for kind in sorted({surface.kind for surface in SURFACES})
    ]
    return "\n".join([*models, f'[[tiers]]\nname = "{TIER}"\nmarkup = "{Decimal(FACTOR_PPM).scaleb(-6)}"\n'])


def _prices() -> str:
    rates = price()
    variants = ", ".join(f'"{name}" = {{ {_table(table)} }}' for name, table in rates.variants.items())
    per_request = Decimal(rates.per_request).scaleb(-9)
    return f'{{ {_table(rates.pico)}, per_request = "{per_request:f}", variants = {{ {variants} }} }}'


def _table(pico: dict[str, int]) -> str:
    return ", ".join(f'{kind} = "{_usd(kind, rate)}"' for kind, rate in pico.items())


def _usd(kind: str, pico: int) -> str:
    """Per million tokens or characters, per one of the other units."""
    return f"{Decimal(pico).scaleb(-12 if kind in UNIT_KINDS else -6):f}"
