"""`/rerank`: documents put in order of their fit to a query. Pure.

There is no OpenAI form of it; this reads the common ground of Jina, vLLM, llama.cpp and Cohere. Charged in tokens where
the backend says them, else in our count of query and documents. Cohere's search units are no kind of usage: a price
charges such a model per request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from config.catalog import Model
from gateway.chunk import Chunk
from gateway.envelope import ChatEnvelope
from gateway.fields import BadRequest, encode, model_of, read, split
from gateway.filter import StreamFilter
from gateway.meter import Count, StreamMeter
from gateway.plain import PlainRequest, rewrite, text_tokens
from gateway.surface import Cost, Surface
from gateway.units import read_json
from ledger.usage import Usage

if TYPE_CHECKING:
    from gateway.counting import Counting

PAIRS_BYTES_MAX = 32 * 1024 * 1024  # a model reads the query once with each document


class RerankRequest(PlainRequest, frozen=True, kw_only=True):
    """Documents to be ranked, as texts. `text_bytes` counts the query as often as it is read."""

    query: str
    documents: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """What the model reads: the query once with each document."""
        return [*(self.query for _ in self.documents), *self.documents]

    @property
    def input(self) -> bytes:
        """The same as JSON, for an exact count."""
        return encode(self.texts)


class _Reply(msgspec.Struct):
    usage: Any = None
    meta: Any = None


def parse(body: bytes, content_type: str) -> RerankRequest:
    """Read a rerank request. Raises BadRequest."""
    fields = split(body)
    query = _text(read(fields, "query", str | dict[str, Any], "a text") or "")  # type: ignore[arg-type]  # a union
    given = read(fields, "documents", list[str | dict[str, Any]], "a list of texts or objects")
    if not query or not given:
        raise BadRequest("A rerank needs a query and at least one document.", "documents" if query else "query")
    documents = tuple(map(_text, given))
    size = len(query.encode()) * len(documents) + sum(len(text.encode()) for text in documents)
    if size > PAIRS_BYTES_MAX:
        raise BadRequest("The query and the documents are too large together.", "documents")
    return RerankRequest(
        body=body, fields=fields, model=model_of(fields), text_bytes=size, query=query, documents=documents
    )


async def foresee(request: RerankRequest, model: Model, counting: Counting) -> Usage:
    """The tokens of query and documents."""
    return Usage(input=await text_tokens(request.texts, request.text_bytes, model, counting))


async def count_input(request: RerankRequest, model: Model, counting: Counting) -> int:
    """The input's tokens where they were not reported."""
    return await counting.text("\n".join(request.texts), model)


def tap(request: RerankRequest, count: Count, cost: Cost, event_bytes_max: int) -> StreamFilter:
    """No backend streams these; one that does passes through the filter all the same."""
    return StreamFilter(StreamMeter(count), usage_wanted=True, cost=cost, event_bytes_max=event_bytes_max)


def whole(request: RerankRequest, body: bytes, content_type: str, count: Count) -> StreamMeter:
    """Meter a reply: `usage`, or the tokens in Cohere's `meta`."""
    meter = StreamMeter(count)
    reply = read_json(body, _Reply) or _Reply()
    usage = reply.usage or (reply.meta.get("tokens") if isinstance(reply.meta, dict) else None)
    if isinstance(usage, dict):
        meter.take(Chunk(usage=usage))
    return meter


def _text(document: str | dict[str, Any]) -> str:
    if isinstance(document, str):
        return document
    text = document.get("text")
    # Fields to rank by have any name, and an image stands under its own: all of it is read.
    return text if isinstance(text, str) else encode(document).decode()


SURFACE = Surface(
    route="rerank",
    path="/rerank",
    kind="rerank",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole,
    envelope=ChatEnvelope(),
    has_output=False,
)
