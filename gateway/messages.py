"""Anthropic Messages (``/messages`` and ``/messages/count_tokens``), as Anthropic and those that copy it speak it.

Input side and output are told at different ends of a stream, and input stands beside what came from the cache, not
around it. Nothing that is kept under the vendor's account may be referred to: all callers here share that account.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import TOKENS_MAX, Media
from gateway.chunk import Chunk
from gateway.envelope import AnthropicEnvelope
from gateway.events import Event, EventFilter, EventMeter, FreeMeter, decode_object
from gateway.events import fields as fields_of
from gateway.fields import (
    NULL,
    BadRequest,
    Fields,
    Raw,
    encode,
    is_set,
    items,
    joined,
    list_of,
    model_of,
    read,
    split,
    whole,
)
from gateway.meter import Count, variant_of
from gateway.prompt import Prompt, exact_count, plain_image, quick_count
from gateway.surface import Cost, Surface
from ledger.usage import Usage

if TYPE_CHECKING:
    from config.catalog import Model
    from gateway.counting import Counting

_FILE = "Files stored at the vendor cannot be used here: send the content itself instead of file_id."
_CONTAINER = "Containers at the vendor cannot be used here: leave the field container out."
_HOSTED = "The tool {} runs in a container at the vendor and cannot be used here."
_HOSTED_TOOLS = ("code_execution",)
_LIST = b"["
PARTS_MAX = 100_000
_TEXTS = ("text", "thinking", "partial_json")


class _Message(msgspec.Struct, gc=False):
    content: Raw = NULL


class _Source(msgspec.Struct, gc=False):
    type: str | None = None
    data: Raw = Raw(b"")
    content: Raw = NULL


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    source: _Source | str | None = None  # of a search result it is an address
    content: Raw = NULL

    @property
    def kept(self) -> bool:
        return self.type == "container_upload" or (isinstance(self.source, _Source) and self.source.type == "file")

    @property
    def data_bytes(self) -> int:
        source = self.source
        return len(memoryview(source.data)) if isinstance(source, _Source) and source.type == "base64" else 0

    @property
    def inner(self) -> tuple[Raw, ...]:
        return (self.content, self.source.content) if isinstance(self.source, _Source) else (self.content,)


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])
_tools = msgspec.json.Decoder(list[_Tool])


class MessagesRequest(msgspec.Struct, frozen=True):
    """A message asked for, or the count of one. Its usage is always shown: the API has no way of not asking for it."""

    body: bytes
    fields: Fields
    model: str
    stream: bool
    asked_output: int | None
    features: frozenset[str]
    prompt: Prompt
    n: int = 1
    include_usage: bool = True

    @property
    def text_bytes(self) -> int:
        return self.prompt.text_bytes


def parse(body: bytes, content_type: str = "") -> MessagesRequest:
    """Read a request. Raises BadRequest; also where `max_tokens` is missing, which Anthropic demands."""
    request = parse_count(body, content_type)
    if request.asked_output is None:
        raise BadRequest("The field max_tokens is missing: say how long the answer may be.", "max_tokens")
    return request


def parse_count(body: bytes, content_type: str = "") -> MessagesRequest:
    """Read a request to count tokens. Raises BadRequest."""
    fields = split(body)
    if is_set(fields, "container"):
        raise BadRequest(_CONTAINER, "container")
    messages, tools = list_of(fields, "messages", required=True), list_of(fields, "tools")
    system = bytes(fields.get("system", NULL))
    parts = [*_parts_in(system, "system"), *_parts_of(messages)]
    kinds = _tool_types(tools)
    return MessagesRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream=read(fields, "stream", bool, "true or false") or False,
        asked_output=whole(fields, "max_tokens", TOKENS_MAX),
        features=_features(parts, kinds),
        prompt=Prompt((messages, system), tools, _media(parts)),
    )


def rewrite(request: MessagesRequest, model: str, output_cap: int | None) -> bytes:
    """The body for the backend: its own name of the model, the output bound."""
    fields = request.fields.copy()
    if model != request.model:
        fields["model"] = Raw(encode(model))
    if output_cap is not None and request.asked_output is not None:
        fields["max_tokens"] = Raw(encode(output_cap))
    return joined(request.body, fields)


async def foresee(request: MessagesRequest, model: Model, counting: Counting) -> Usage:
    """The input's tokens."""
    return Usage(input=await quick_count(request.prompt, model, counting))


async def count_input(request: MessagesRequest, model: Model, counting: Counting) -> int:
    """The input's tokens by the model's vocabulary."""
    return await exact_count(request.prompt, model, counting)


async def foresee_nothing(request: MessagesRequest, model: Model, counting: Counting) -> Usage:
    """Counting is free."""
    return Usage()


def tap(request: MessagesRequest, count: Count, cost: Cost, event_bytes_max: int) -> EventFilter:
    """The way of a streamed reply."""
    return EventFilter(MessageMeter(count), cost=cost, event_bytes_max=event_bytes_max)


def whole_reply(request: MessagesRequest, body: bytes, content_type: str, count: Count) -> MessageMeter:
    """The meter of a whole reply."""
    meter = MessageMeter(count)
    meter.take_whole(decode_object(body))
    return meter


def whole_count(request: MessagesRequest, body: bytes, content_type: str, count: Count) -> FreeMeter:
    """The meter of a count: nothing."""
    return FreeMeter()


class MessageMeter(EventMeter):
    """Reads the events of a message. The input side stands in the first, the output in the last but one, cumulative;
    the input may stand there again, larger by what a search has read."""

    __slots__ = ()

    def take(self, chunk: Chunk) -> None:
        """Read one event. Text comes before usage."""
        event = chunk if isinstance(chunk, Event) else Event()
        if event.name == "content_block_delta":
            self._words(fields_of(event.delta))
        elif event.name == "content_block_start":
            self._block(fields_of(event.content_block))
        elif event.name == "message_start":
            message = fields_of(event.message)
            self._begin(message.get("id"))
            self._usage(fields_of(message.get("usage")))
        elif event.name == "message_stop":
            self._ended = True
        if event.usage is not None:
            self._usage(event.usage)

    def take_whole(self, message: dict[str, Any]) -> None:
        """Read a message that came in one piece."""
        blocks = message.get("content")
        for block in blocks if isinstance(blocks, list) else ():
            self._block(fields_of(block))
        self._usage(fields_of(message.get("usage")))

    def _block(self, block: dict[str, Any]) -> None:
        """A block's beginning, or the whole of it. A search that failed is not billed: its content is no list."""
        self._words(block)
        if isinstance(name := block.get("name"), str):
            self._add(name)
        if isinstance(given := block.get("input"), dict) and given:
            self._add(msgspec.json.encode(given).decode())
        if block.get("type") == "web_search_tool_result" and isinstance(block.get("content"), list):
            self._searches += 1

    def _words(self, delta: dict[str, Any]) -> None:
        for name in _TEXTS:
            text = delta.get(name)
            if text and isinstance(text, str):
                self._add(text)

    def _usage(self, usage: dict[str, Any]) -> None:
        self._fold()
        covered = self._covered
        self._report(usage)
        # A report of the input alone says nothing of the text before it.
        self._covered = self._covered and (covered or "output_tokens" in usage or not self._chars)
        tier, speed = (variant_of(value) if isinstance(value, str) else "" for value in _said(usage))
        self.service_tier = tier or speed or self.service_tier


def _said(usage: dict[str, Any]) -> tuple[Any, Any]:
    return usage.get("service_tier"), usage.get("speed")


def _parts_of(messages: bytes) -> list[_Part]:
    """Every part of the messages, those within tool results too. Raises BadRequest for what is kept at the vendor."""
    level = [part for each in items(messages, _messages, "messages") for part in _parts_in(each.content, "messages")]
    parts: list[_Part] = []
    while level and len(parts) <= PARTS_MAX:
        parts += level
        level = [inner for part in level for raw in part.inner for inner in _parts_in(raw, "messages")]
    if level or any(part.kept for part in parts):
        raise BadRequest(_FILE if not level else "The messages have too many parts.", "messages")
    return parts


def _parts_in(raw: bytes | Raw, name: str) -> list[_Part]:
    return items(raw, _parts, name) if memoryview(raw)[:1] == _LIST else []


def _tool_types(tools: bytes) -> list[str]:
    kinds = [tool.type or "" for tool in items(tools, _tools, "tools")] if tools else []
    for kind in kinds:
        if kind.startswith(_HOSTED_TOOLS):
            raise BadRequest(_HOSTED.format(kind[:40]), "tools")
    return kinds


def _features(parts: Iterable[_Part], tools: list[str]) -> frozenset[str]:
    used = {"tools"} if tools else set()
    if any(part.type == "image" for part in parts):
        used.add("images")
    if any(tool.startswith("web_search") for tool in tools):
        used.add("web_search")
    return frozenset(used)


def _media(parts: list[_Part]) -> Media:
    images = [part for part in parts if part.type == "image"]
    return Media(
        images=tuple(plain_image() for _ in images),
        image_bytes=sum(part.data_bytes for part in images),
        file_bytes=sum(part.data_bytes for part in parts if part.type == "document"),
    )


SURFACE = Surface(
    route="messages",
    path="/messages",
    kind="chat",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole_reply,
    envelope=AnthropicEnvelope(),
    reopens=True,
)
COUNT_SURFACE = Surface(
    route="messages.count_tokens",
    path="/messages/count_tokens",
    kind="chat",
    parse=parse_count,
    rewrite=rewrite,
    foresee=foresee_nothing,
    count=count_input,
    tap=tap,
    whole=whole_count,
    envelope=AnthropicEnvelope(),
    has_output=False,
    free=True,
)
SURFACES = (SURFACE, COUNT_SURFACE)
