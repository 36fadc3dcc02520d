"""Chat completions as a surface: the route most calls take. Pure but for the counting it asks for."""

from __future__ import annotations

import re

from config.catalog import Model
from gateway import call
from gateway.call import ChatRequest
from gateway.counting import Counting
from gateway.envelope import ChatEnvelope
from gateway.filter import StreamFilter
from gateway.meter import Count, StreamMeter, read_whole
from gateway.surface import Cost, Surface
from ledger.usage import Usage

_REASONING = re.compile(r"(?:o\d|gpt-[5-9])")  # OpenAI refuses max_tokens for these: "use max_completion_tokens"


def rewrite(request: ChatRequest, model: str, output_cap: int | None) -> bytes:
    """The body for the backend: its own name of the model, usage asked for in a stream, the output bound."""
    field = "max_completion_tokens" if _REASONING.match(model) else "max_tokens"
    return call.rewrite(request, model=model, max_output=output_cap, output_field=field)


async def foresee(request: ChatRequest, model: Model, counting: Counting) -> Usage:
    """The input's tokens, never much too few."""
    return Usage(input=await counting.estimate(request, model))


async def count(request: ChatRequest, model: Model, counting: Counting) -> int:
    """The input's tokens by the model's vocabulary."""
    return await counting.exact(request, model)


def tap(request: ChatRequest, count: Count, cost: Cost, event_bytes_max: int) -> StreamFilter:
    """The way of a streamed reply."""
    meter = StreamMeter(count)
    return StreamFilter(meter, usage_wanted=request.include_usage, cost=cost, event_bytes_max=event_bytes_max)


def whole(request: ChatRequest, body: bytes, content_type: str, count: Count) -> StreamMeter:
    """The meter of a whole reply."""
    return read_whole(StreamMeter(count), body)


SURFACE = Surface(
    route="chat.completions",
    path="/chat/completions",
    kind="chat",
    parse=call.parse_chat,
    rewrite=rewrite,
    foresee=foresee,
    count=count,
    tap=tap,
    whole=whole,
    envelope=ChatEnvelope(),
)
