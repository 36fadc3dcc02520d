"""The tiers a Farebox begins with where nobody declared any; `shipped.toml` beside this file says what they promise."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from importlib.resources import files

from config.catalog_file import read_catalog
from policies.tier import Tier


def shipped_tiers() -> tuple[Tier, ...]:
    """In the order of the file."""
    text = files("config").joinpath("shipped.toml").read_text("utf-8")
    return read_catalog(tomllib.loads(text, parse_float=Decimal)).tiers
