"""`/moderations`: whether a text or an image may pass. Pure.

Charged by nothing but a price's part per request: there is no usage, and that is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.catalog import Model
from gateway.envelope import ChatEnvelope
from gateway.fields import NULL, BadRequest, model_of, split
from gateway.meter import Count
from gateway.plain import PlainRequest, rewrite
from gateway.surface import Cost, Surface
from gateway.units import UnitMeter, UnitTap, never
from ledger.usage import Usage, UsageSource

if TYPE_CHECKING:
    from gateway.counting import Counting


def parse(body: bytes, content_type: str) -> PlainRequest:
    """Read a moderation request: `input` is a text, or a list of texts or of parts. Raises BadRequest."""
    fields = split(body)
    given = bytes(fields.get("input", NULL))
    if given[:1] not in (b'"', b"["):
        raise BadRequest("The field input must be a text or a list.", "input")
    return PlainRequest(body=body, fields=fields, model=model_of(fields), text_bytes=len(given))


async def foresee(request: PlainRequest, model: Model, counting: Counting) -> Usage:
    """Nothing."""
    return Usage()


async def count_input(request: PlainRequest, model: Model, counting: Counting) -> int:
    """The input's tokens where they were not reported."""
    return (await foresee(request, model, counting)).input_tokens


def whole(request: PlainRequest, body: bytes, content_type: str, count: Count) -> UnitMeter:
    """Meter a reply: nothing, whatever it says."""
    return UnitMeter(Usage(), UsageSource.REPORTED)


def tap(request: PlainRequest, count: Count, cost: Cost, event_bytes_max: int) -> UnitTap:
    """No backend streams these; one that does passes through the filter all the same."""
    return UnitTap(UnitMeter(Usage(), UsageSource.REPORTED), cost, event_bytes_max, last=never)


SURFACE = Surface(
    route="moderations",
    path="/moderations",
    kind="moderation",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole,
    envelope=ChatEnvelope(),
    has_output=False,
)
