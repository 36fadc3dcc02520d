"""The input of a request that is no chat completion, counted: exactly where it is short, else from its size.

Shared by the routes whose input is text in a JSON of their own (Responses, Messages).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import IMAGE_HEAD_BYTES, Image, Media
from gateway.counting import EXACT_BYTES_MAX
from policies.estimate import AUDIO_BYTES_PER_TOKEN, FILE_BYTES_PER_TOKEN, image_tokens, input_tokens, scaled

if TYPE_CHECKING:
    from config.catalog import Model
    from gateway.counting import Counting

ITEM_TOKENS = 3  # what each message or item costs beside its words, as in a chat
_DEPTH_MAX = 32
# What stands in a request and is no text for the model: media, which are counted by rule, and names of things.
_NO_TEXT = frozenset(
    (
        *("image_url", "url", "data", "file_data", "file_url", "input_audio", "media_type", "detail"),
        *("type", "id", "call_id", "tool_use_id", "file_id", "status", "cache_control", "signature"),
        "encrypted_content",
    )
)


class Prompt(msgspec.Struct, frozen=True):
    """What becomes input: JSON values of words (texts or lists of messages), the tools' JSON, the media in them."""

    words: tuple[bytes, ...]
    tools: bytes = b""
    media: Media = Media()

    @property
    def text_bytes(self) -> int:
        return max(0, sum(map(len, self.words)) + len(self.tools) - self.media.total_bytes)


async def quick_count(prompt: Prompt, model: Model, counting: Counting) -> int:
    """Input tokens before the call: exact where that is cheap, never much too few."""
    if prompt.text_bytes <= EXACT_BYTES_MAX:
        return await exact_count(prompt, model, counting)
    media = prompt.media
    images = sum(image_tokens(image.head, image.detail) for image in media.images)
    return scaled(
        input_tokens(prompt.text_bytes, images, media.audio_bytes, media.file_bytes), model.tokenizer_factor_ppm
    )


async def exact_count(prompt: Prompt, model: Model, counting: Counting) -> int:
    """Input tokens by the model's vocabulary, media by rule."""
    values = [_decoded(raw) for raw in prompt.words]
    texts = [text for text in (*(text for value in values for text in _texts(value)), *_tools(prompt.tools)) if text]
    items = sum(len(value) if isinstance(value, list) else bool(value) for value in values)
    media = prompt.media
    beside = sum(image_tokens(image.head, image.detail) for image in media.images)
    beside += media.audio_bytes // AUDIO_BYTES_PER_TOKEN + media.file_bytes // FILE_BYTES_PER_TOKEN
    return await counting.text("\n".join(texts), model) + ITEM_TOKENS * items + beside


def plain_image(detail: str = "", url: bytes = b"") -> Image:
    """An image by the beginning of its URL; without one its size counts as unknown."""
    return Image(url[:IMAGE_HEAD_BYTES], detail)


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _DEPTH_MAX and isinstance(value, list):
        for each in value:
            yield from _texts(each, depth + 1)
    elif depth < _DEPTH_MAX and isinstance(value, dict):
        for name, each in value.items():
            # What a tool was called with reaches the model as JSON, names and all.
            if name in ("input", "arguments") and isinstance(each, dict):
                yield json.dumps(each, ensure_ascii=False)
            elif name == "source":
                yield from _document(each, depth)
            elif name not in _NO_TEXT:
                yield from _texts(each, depth + 1)


def _document(source: Any, depth: int) -> Iterator[str]:
    """The text of a document that was sent as text; a binary one is counted by its size."""
    if isinstance(source, dict):
        given = source.get("data") if source.get("type") == "text" else None
        yield from _texts([given, source.get("content")], depth + 2)


def _tools(tools: bytes) -> list[str]:
    if len(tools) <= len(b"[]"):
        return []
    try:
        return [msgspec.json.format(tools, indent=-1).decode("utf-8", "replace")]
    except (ValueError, RecursionError):
        return [tools.decode("utf-8", "replace")]
