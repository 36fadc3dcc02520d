"""What a call consumed. Pure.

A ``Usage`` is a vector of *disjoint* parts: every token stands in exactly one field, so that the parts add up and each
has one price. How a backend reports them is the meter's business, not this file's.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class UsageSource(StrEnum):
    """How well the usage is known: said by the backend, counted exactly by us, or estimated by us."""

    REPORTED = "reported"
    COUNTED = "counted"
    ESTIMATED = "estimated"


INPUT_KINDS = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_in", "image_in")
OUTPUT_KINDS = ("output", "reasoning", "audio_out")
TOKEN_KINDS = INPUT_KINDS + OUTPUT_KINDS
KINDS = (*TOKEN_KINDS, "web_searches", "images", "seconds", "characters")
UNIT_KINDS = ("web_searches", "images", "seconds")
"""Priced by the single unit wherever people read or write prices; all other kinds are priced by the million."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Disjoint parts, each a whole number >= 0. Tokens, but for the last four, which are counts of their unit."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_in: int = 0
    image_in: int = 0
    output: int = 0
    reasoning: int = 0
    audio_out: int = 0
    web_searches: int = 0
    images: int = 0
    seconds: int = 0
    characters: int = 0

    @property
    def input_tokens(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.audio_in + self.image_in

    @property
    def output_tokens(self) -> int:
        return self.output + self.reasoning + self.audio_out

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def maximum(self, other: Usage) -> Usage:
        """Per field the larger: usage frames are cumulative, so they are never summed."""
        return Usage(**{kind: max(getattr(self, kind), getattr(other, kind)) for kind in KINDS})

    def parts(self) -> dict[str, int]:
        """The parts that are not zero, by kind: what is stored beside a charge."""
        return {kind: amount for kind in KINDS if (amount := getattr(self, kind))}
