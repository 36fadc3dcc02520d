"""OpenAI Responses (``/responses``): input is a text or items, the answer a stream of named events or one object.

Nothing of a response stays at the vendor: there it would belong to one account that all callers share, so whoever knew
an id could read another's. What would be kept is not (`store` is false), and what refers to kept things is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import TOKENS_MAX, Media
from gateway.chunk import Chunk
from gateway.dialect import FIELD_MAX
from gateway.envelope import ResponsesEnvelope
from gateway.events import LAST, Event, EventFilter, EventMeter, decode_object
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
from gateway.meter import Count
from gateway.prompt import Prompt, exact_count, plain_image, quick_count
from gateway.surface import Cost, Surface
from ledger.usage import Usage

if TYPE_CHECKING:
    from config.catalog import Model
    from gateway.counting import Counting

_KEPT = {
    "previous_response_id": "Responses are not stored here: send the whole conversation in input instead of "
    "previous_response_id.",
    "conversation": "Conversations are not stored here: send the whole conversation in input instead.",
    "prompt": "Prompts stored at the vendor cannot be used here: send the text in instructions or input.",
}
_BACKGROUND = "Background responses are not available here: leave background out and stream the response instead."
_REFERENCE = "Items stored at the vendor cannot be used here: send the items themselves in input."
_FILE = "Files stored at the vendor cannot be used here: send the content itself instead of file_id."
_HOSTED = "The tool {} works on what is stored at the vendor and cannot be used here."
# They keep files and machines under the vendor's account, and are billed apart without a word in the reply.
_HOSTED_TOOLS = ("file_search", "code_interpreter")
_AUDIO = ("response.audio.delta", "response.output_audio.delta")  # base64, not words
_STORE = Raw(b"false")
_LIST = b"["


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    role: str | None = None
    content: Raw = NULL
    output: Raw = NULL


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    file_id: str | None = None
    detail: str | None = None
    image_url: Raw = Raw(b"")
    input_audio: Raw = Raw(b"")
    file_data: Raw = Raw(b"")


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None
    environment: Raw = NULL


_items = msgspec.json.Decoder(list[_Item])
_parts = msgspec.json.Decoder(list[_Part])
_tools = msgspec.json.Decoder(list[_Tool])


class ResponsesRequest(msgspec.Struct, frozen=True):
    """A response asked for. Its usage is always shown: the API has no way of not asking for it."""

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


def parse(body: bytes, content_type: str = "") -> ResponsesRequest:
    """Read a request. Raises BadRequest."""
    fields = split(body)
    _refuse_kept(fields)
    given, tools = bytes(fields.get("input", NULL)), list_of(fields, "tools")
    parts = _parts_of(given)
    kinds = _tool_types(tools)
    return ResponsesRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream=read(fields, "stream", bool, "true or false") or False,
        asked_output=whole(fields, "max_output_tokens", TOKENS_MAX),
        features=_features(parts, kinds),
        prompt=Prompt((given, bytes(fields.get("instructions", Raw(b'""')))), tools, _media(parts)),
    )


def rewrite(request: ResponsesRequest, model: str, output_cap: int | None) -> bytes:
    """The body for the backend: its own name of the model, nothing stored, the output bound."""
    fields = request.fields.copy()
    if model != request.model:
        fields["model"] = Raw(encode(model))
    fields["store"] = _STORE
    if output_cap is not None:
        fields["max_output_tokens"] = Raw(encode(output_cap))
    return joined(request.body, fields)


async def foresee(request: ResponsesRequest, model: Model, counting: Counting) -> Usage:
    """The input's tokens."""
    return Usage(input=await quick_count(request.prompt, model, counting))


async def count_input(request: ResponsesRequest, model: Model, counting: Counting) -> int:
    """The input's tokens by the model's vocabulary."""
    return await exact_count(request.prompt, model, counting)


def tap(request: ResponsesRequest, count: Count, cost: Cost, event_bytes_max: int) -> EventFilter:
    """The way of a streamed reply."""
    return EventFilter(ResponseMeter(count), cost=cost, event_bytes_max=event_bytes_max)


def whole_reply(request: ResponsesRequest, body: bytes, content_type: str, count: Count) -> ResponseMeter:
    """The meter of a whole reply: it is what stands in a stream's last event."""
    meter = ResponseMeter(count)
    meter.take(Event(type="response.completed", response=decode_object(body)))
    return meter


class ResponseMeter(EventMeter):
    """Reads the events of a response. Usage stands in the last one; web searches beside it or among the items."""

    __slots__ = ()

    def take(self, chunk: Chunk) -> None:
        """Read one event. Text comes before usage: the last event speaks for all that came."""
        event = chunk if isinstance(chunk, Event) else Event()
        if type(event.delta) is str:
            if event.name.endswith(".delta") and event.name not in _AUDIO:
                self._add(event.delta)
        elif event.name == "response.output_item.added":
            self._add_text(fields_of(event.item).get("name"))
        elif event.name == "response.output_item.done":
            self._searches += _is_search(event.item)
        elif isinstance(event.response, dict):
            self._response(event.name, event.response)
        if event.usage is not None:
            self._report(event.usage)

    def _response(self, name: str, response: dict[str, Any]) -> None:
        if name == "response.created":
            self._begin(response.get("id"))
        if name in LAST:
            self._end(response)
        if isinstance(tier := response.get("service_tier"), str):
            self.service_tier = tier
        self._tools_used(fields_of(response.get("tool_usage")))
        if isinstance(usage := response.get("usage"), dict):
            self._report(usage)

    def _end(self, response: dict[str, Any]) -> None:
        """The whole answer once more. Its text counts where none came before, its searches where they are more."""
        self._ended = True
        output = response.get("output")
        output = output if isinstance(output, list) else []
        self._searches = max(self._searches, sum(map(_is_search, output)))
        if self._silent:
            for item in output:
                self._item_text(fields_of(item))

    def _item_text(self, item: dict[str, Any]) -> None:
        for name in ("name", "arguments", "input"):
            self._add_text(item.get(name))
        for name in ("content", "summary"):
            parts = item.get(name)
            for part in parts if isinstance(parts, list) else ():
                self._add_text(fields_of(part).get("text") or fields_of(part).get("refusal"))

    def _add_text(self, text: Any) -> None:
        if text and isinstance(text, str):
            self._add(text)

    def _tools_used(self, usage: dict[str, Any]) -> None:
        """Tools are told beside the tokens. Pictures drawn by a tool have no kind of usage here, so they are marked."""
        told = fields_of(usage.get("web_search")).get("num_requests")
        if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= FIELD_MAX:
            self._searches_told = max(told, self._searches_told or 0)
        elif told is not None:
            self._mark("web_searches")
        if any(amount for amount in fields_of(usage.get("image_gen")).values() if not isinstance(amount, dict)):
            self._mark("image_gen")


def _is_search(item: Any) -> bool:
    """A search that was done. Opening a found page and looking into it are calls of the same type, and are not
    billed."""
    item = fields_of(item)
    action = fields_of(item.get("action")).get("type", "search")
    return (item.get("type"), item.get("status"), action) == ("web_search_call", "completed", "search")


def _refuse_kept(fields: Fields) -> None:
    if read(fields, "background", bool, "true or false"):
        raise BadRequest(_BACKGROUND, "background")
    for name, sentence in _KEPT.items():
        if is_set(fields, name):
            raise BadRequest(sentence, name)


def _parts_of(given: bytes) -> list[_Part]:
    """Every part of the items' contents and outputs. Raises BadRequest for input that is none, or is kept elsewhere."""
    if given[:1] == b'"':
        return []
    if given[:1] != _LIST:
        raise BadRequest("The field input must be a text or a list of items.", "input")
    parts: list[_Part] = []
    for item in items(given, _items, "input"):
        # An item without type and role is a reference too: `type` may be left out of one.
        if item.type == "item_reference" or (item.type is None and item.role is None):
            raise BadRequest(_REFERENCE, "input")
        parts += [part for raw in (item.content, item.output) for part in _parts_in(raw)]
    if any(part.file_id for part in parts):
        raise BadRequest(_FILE, "input")
    return parts


def _parts_in(raw: Raw) -> list[_Part]:
    first = memoryview(raw)[:1].tobytes()
    if first == b"{":  # a screenshot is one part by itself
        return items(b"[" + bytes(raw) + b"]", _parts, "input")
    return items(raw, _parts, "input") if first == _LIST else []


def _tool_types(tools: bytes) -> list[str]:
    found = items(tools, _tools, "tools") if tools else []
    for tool in found:
        if b'"container' in bytes(tool.environment) or (tool.type or "").startswith(_HOSTED_TOOLS):
            raise BadRequest(_HOSTED.format((tool.type or "")[:40]), "tools")
    return [tool.type or "" for tool in found]


def _features(parts: list[_Part], tools: list[str]) -> frozenset[str]:
    used = {"tools"} if tools else set()
    if "image_generation" in tools or any(_given(part.image_url) for part in parts):
        used.add("images")
    if any(_given(part.input_audio) for part in parts):
        used.add("audio")
    if any(tool.startswith("web_search") for tool in tools):
        used.add("web_search")
    return frozenset(used)


def _media(parts: list[_Part]) -> Media:
    pictures = [part for part in parts if _given(part.image_url)]
    return Media(
        images=tuple(plain_image(part.detail or "", bytes(part.image_url)) for part in pictures),
        image_bytes=sum(len(bytes(part.image_url)) for part in pictures),
        audio_bytes=sum(len(bytes(part.input_audio)) for part in parts if _given(part.input_audio)),
        file_bytes=sum(len(bytes(part.file_data)) for part in parts if _given(part.file_data)),
    )


def _given(raw: Raw) -> bool:
    return len(memoryview(raw)) > 0 and raw != NULL


SURFACE = Surface(
    route="responses",
    path="/responses",
    kind="chat",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole_reply,
    envelope=ResponsesEnvelope(),
    reopens=True,
)
