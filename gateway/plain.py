"""A JSON request that asks for one thing and no conversation: nothing to cap, few fields to read. Pure.

What rerank, speech, image and moderation requests have in common; each adds the fields it is charged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from config.catalog import Model
from gateway.fields import Fields, Raw, encode, joined
from policies.estimate import input_tokens, scaled

if TYPE_CHECKING:
    from gateway.counting import Counting

EXACT_BYTES_MAX = 4096  # up to here texts are counted before the call, above it estimated


class PlainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body, once whole and once as its top-level fields, whose bytes stay as they came."""

    body: bytes
    fields: Fields
    model: str
    stream: bool = False
    n: int = 1
    text_bytes: int = 0

    asked_output: ClassVar[int | None] = None
    include_usage: ClassVar[bool] = True  # these routes show usage unasked
    features: ClassVar[frozenset[str]] = frozenset()


def rewrite(request: PlainRequest, model: str, output_cap: int | None) -> bytes:
    """The body for a backend that knows the model by this name; the caller's own bytes if they say just that.

    There is no output that could be capped.
    """
    if model == request.model:
        return joined(request.body, request.fields)
    return encode({**request.fields, "model": Raw(encode(model))})


async def text_tokens(texts: Sequence[str], text_bytes: int, model: Model, counting: Counting) -> int:
    """Tokens of these texts in the model's measure: counted if they are short, estimated from their bytes if not."""
    if text_bytes > EXACT_BYTES_MAX:
        return scaled(input_tokens(text_bytes), model.tokenizer_factor_ppm)
    return await counting.text("\n".join(texts), model)
