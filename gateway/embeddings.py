"""Embeddings as a surface. Pure but for the counting it asks for."""

from __future__ import annotations

from config.catalog import Model
from gateway import call
from gateway.call import EmbeddingsRequest
from gateway.counting import Counting
from gateway.envelope import ChatEnvelope
from gateway.filter import StreamFilter
from gateway.meter import Count, StreamMeter, meter_reply
from gateway.surface import Cost, Surface
from ledger.usage import Usage


def parse(body: bytes, content_type: str = "") -> EmbeddingsRequest:
    """Read a request. Raises BadRequest."""
    return call.parse_embeddings(body)


def rewrite(request: EmbeddingsRequest, model: str, output_cap: int | None) -> bytes:
    """The body for the backend, with its own name of the model."""
    return call.rewrite(request, model=model)


async def foresee(request: EmbeddingsRequest, model: Model, counting: Counting) -> Usage:
    """The input's tokens, never much too few."""
    return Usage(input=await counting.estimate(request, model))


async def count(request: EmbeddingsRequest, model: Model, counting: Counting) -> int:
    """The input's tokens by the model's vocabulary."""
    return await counting.exact(request, model)


def tap(request: EmbeddingsRequest, count: Count, cost: Cost, event_bytes_max: int) -> StreamFilter:
    """Embeddings are not streamed; a backend that does it all the same is metered like a chat."""
    return StreamFilter(StreamMeter(count), usage_wanted=True, cost=cost, event_bytes_max=event_bytes_max)


def whole(request: EmbeddingsRequest, body: bytes, content_type: str, count: Count) -> StreamMeter:
    """The meter of a whole reply."""
    return meter_reply(body, count)


SURFACE = Surface(
    route="embeddings",
    path="/embeddings",
    kind="embedding",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count,
    tap=tap,
    whole=whole,
    envelope=ChatEnvelope(),
    has_output=False,
)
