"""The request body as a value: model, streaming or not, how much may come back, which features it uses. Pure.

The body is split once into its top-level fields, whose bytes stay as they came; messages are opened only as far as the
kinds of their parts, and base64 never. What goes upstream is put together from the same fields, so that the backend
reads what was read here: a key that stood twice stands once, with the value that was checked.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from gateway.fields import (
    NULL,
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
    usage_asked,
    usage_wanted,
    whole,
)
from gateway.fields import BadRequest as BadRequest

CHOICES_MAX = 128  # OpenAI's own bound of `n`
TOKENS_MAX = 100_000_000
IMAGE_HEAD_BYTES = 88 * 1024  # of an image's URL: enough to find the size in any usual file header

_DETAIL = re.compile(rb'"detail"\s*:\s*"(\w+)"')


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    image_url: Raw = Raw(b"")
    image: Raw = Raw(b"")
    input_audio: Raw = Raw(b"")
    audio: Raw = Raw(b"")
    file: Raw = Raw(b"")


class _Message(msgspec.Struct, gc=False):
    content: Raw = NULL


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])
_tools = msgspec.json.Decoder(list[_Tool])


class Image(msgspec.Struct, frozen=True):
    """The beginning of an image's URL, as it stands in the body, and the detail asked for ("" when not said)."""

    head: bytes
    detail: str


class Media(msgspec.Struct, frozen=True):
    """What stands in the messages beside text. The byte counts are of the base64 as sent."""

    images: tuple[Image, ...] = ()
    image_bytes: int = 0
    audio_bytes: int = 0
    file_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.image_bytes + self.audio_bytes + self.file_bytes


_LIST = ord("[")
_FEATURED = ("functions", "audio", "modalities", "web_search_options")
_NONE: frozenset[str] = frozenset()
NO_MEDIA = Media()


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat completion asked for. `asked_output` is in tokens per choice; `text_bytes` counts messages and tools."""

    body: bytes
    fields: Fields
    model: str
    stream: bool
    n: int
    asked_output: int | None
    include_usage: bool
    features: frozenset[str]
    media: Media
    messages: bytes
    tools: bytes

    @property
    def text_bytes(self) -> int:
        text = len(self.messages) + len(self.tools)
        return text if self.media is NO_MEDIA else max(0, text - self.media.total_bytes)


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """Embeddings asked for. `input` is the JSON as sent: a text, texts, token ids or lists of them."""

    body: bytes
    fields: Fields
    model: str
    input: bytes

    stream: ClassVar[bool] = False
    n: ClassVar[int] = 1
    asked_output: ClassVar[int | None] = None
    include_usage: ClassVar[bool] = False
    features: ClassVar[frozenset[str]] = frozenset()

    @property
    def text_bytes(self) -> int:
        return len(self.input)


Request = ChatRequest | EmbeddingsRequest


def parse_chat(body: bytes, content_type: str = "") -> ChatRequest:
    """Read a chat completion request. Raises BadRequest."""
    fields = split(body)
    messages = list_of(fields, "messages", required=True)
    tools = list_of(fields, "tools") if "tools" in fields else b""
    media = _media(messages)
    return ChatRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream="stream" in fields and bool(read(fields, "stream", bool, "true or false")),
        n=(whole(fields, "n", CHOICES_MAX) or 1) if "n" in fields else 1,
        asked_output=_asked_output(fields),
        include_usage="stream_options" in fields and usage_wanted(fields),
        features=_features(fields, tools, media),
        media=media,
        messages=messages,
        tools=tools,
    )


def parse_embeddings(body: bytes) -> EmbeddingsRequest:
    """Read an embeddings request. Raises BadRequest."""
    fields = split(body)
    given = bytes(fields.get("input", NULL))
    if given[:1] not in (b'"', b"["):
        raise BadRequest("input must be a text or a list.", "input")
    return EmbeddingsRequest(body=body, fields=fields, model=model_of(fields), input=given)


def rewrite(
    request: Request,
    *,
    model: str,
    max_output: int | None = None,
    output_field: str = "max_tokens",
) -> bytes:
    """Return the body that goes upstream; the caller's own bytes where they already say just that.

    The model becomes `model`; a stream is asked for its usage; `max_output`, if given, replaces every output bound the
    caller sent, or is added as `output_field`. Every other value keeps its bytes, every key its place.
    """
    fields = request.fields.copy()
    if model != request.model:
        fields["model"] = Raw(encode(model))
    if isinstance(request, ChatRequest):
        if request.stream and not request.include_usage:
            fields["stream_options"] = usage_asked(fields.get("stream_options"))
        if max_output is not None:
            _bound_output(fields, max_output, output_field)
    return joined(request.body, fields)


def _asked_output(fields: Fields) -> int | None:
    """The larger where both names are used: a backend may follow either, and the hold must cover what it does."""
    most = whole(fields, "max_tokens", TOKENS_MAX) if "max_tokens" in fields else None
    if "max_completion_tokens" not in fields:
        return most
    other = whole(fields, "max_completion_tokens", TOKENS_MAX)
    return most if other is None else max(other, most or other)


def _features(fields: Fields, tools: bytes, media: Media) -> frozenset[str]:
    if not tools and media is NO_MEDIA and fields.keys().isdisjoint(_FEATURED):
        return _NONE
    used = set()
    if len(tools) > len(b"[]") or "functions" in fields:
        used.add("tools")
    if media.images:
        used.add("images")
    if media.audio_bytes or is_set(fields, "audio") or "audio" in (read(fields, "modalities", list, "a list") or ()):
        used.add("audio")
    if is_set(fields, "web_search_options") or _has_search_tool(tools):
        used.add("web_search")
    return frozenset(used)


def _has_search_tool(tools: bytes) -> bool:
    if b"web_search" not in tools and b"\\u" not in tools:
        return False
    return any((tool.type or "").startswith("web_search") for tool in items(tools, _tools, "tools"))


def _media(messages: bytes) -> Media:
    """Find what is not text: the parts of list contents, by kind and size. Text is passed over unread."""
    parts: list[_Part] = []
    for message in items(messages, _messages, "messages"):
        if memoryview(message.content)[0] == _LIST:
            parts += items(message.content, _parts, "messages")
    return _sum_media(parts) if parts else NO_MEDIA


def _sum_media(parts: list[_Part]) -> Media:
    pictures = [raw for part in parts for raw in (part.image_url, part.image) if _given(raw)]
    unnamed = sum(part.type == "input_image" and not _given(part.image_url) for part in parts)
    return Media(
        images=(*map(_image, pictures), *(Image(b"", "") for _ in range(unnamed))),
        image_bytes=_bytes(pictures),
        audio_bytes=_bytes([raw for part in parts for raw in (part.input_audio, part.audio) if _given(raw)]),
        file_bytes=_bytes([part.file for part in parts if _given(part.file)]),
    )


def _given(raw: Raw) -> bool:
    return len(memoryview(raw)) > 0 and raw != NULL


def _bytes(raws: list[Raw]) -> int:
    return sum(len(memoryview(raw)) for raw in raws)


def _image(raw: Raw) -> Image:
    view = memoryview(raw)
    # `detail` stands before or after the URL; the middle is base64 and is not looked at.
    found = _DETAIL.search(bytes(view[:256])) or _DETAIL.search(bytes(view[-256:]))
    return Image(bytes(view[:IMAGE_HEAD_BYTES]), found[1].decode() if found else "")


def _bound_output(fields: Fields, max_output: int, output_field: str) -> None:
    names = [name for name in ("max_completion_tokens", "max_tokens") if is_set(fields, name)]
    for name in names or [output_field]:
        fields[name] = Raw(encode(max_output))
