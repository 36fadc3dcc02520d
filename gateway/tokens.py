"""How many tokens texts, chats and inputs have, by the vocabularies that are loaded.

Counting never raises: what a vocabulary cannot take is estimated, and a vocabulary that is not to be had is stood in
for by the nearest, which the log says once.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from config.vocabularies import ALWAYS
from gateway.vocabulary import ExtraVocabulary, Remembering, TiktokenVocabulary, Vocabulary
from gateway.vocabulary import VocabularyError as VocabularyError

DEFAULT_ENCODING = "o200k_base"
ENCODINGS = ALWAYS
MESSAGE_TOKENS, NAME_TOKENS, PRIMING_TOKENS = 3, 1, 3  # OpenAI cookbook, "How to count tokens with tiktoken"

_OLDER = re.compile(r"(?:gpt-3\.5|gpt-35|gpt-4(?!o|\.|-?5)|text-embedding-)")

_log = logging.getLogger("farebox.gateway")


class Tokenizers:
    """The loaded vocabularies, for any thread."""

    def __init__(self, vocabularies: Mapping[str, Vocabulary], data_dir: Path | None = None) -> None:
        """``data_dir``: where those of OpenAI's are unpacked that are asked for later."""
        self._vocabularies = {name: Remembering(vocabulary) for name, vocabulary in vocabularies.items()}
        self._data_dir = data_dir
        self._loading = threading.Lock()
        self._role = lru_cache(maxsize=64)(self.count)  # the same few words in every message

    @classmethod
    def load(cls, data_dir: Path) -> Tokenizers:
        """Load the one that stands in for others (0.4 s: in a thread), unpacking it under `data_dir` where missing.

        Every other takes its 35 MB when it is needed. Raises VocabularyError.
        """
        return cls({DEFAULT_ENCODING: TiktokenVocabulary(data_dir, DEFAULT_ENCODING)}, data_dir)

    def prepare(self, encodings: Iterable[str]) -> None:
        """Load those that are not there. No other thread runs meanwhile: at start, before there are calls.

        One that is not to be had is stood in for by the nearest.
        """
        for encoding in encodings:
            self._vocabulary(encoding)

    def count(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of a text; special tokens count as the plain text they are written in. Never raises for any text."""
        return self._vocabulary(encoding).count(text) if text else 0

    async def count_async(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """The same; long texts are counted in a worker thread."""
        if self.at_once(len(text), encoding):
            return self.count(text, encoding)
        return await asyncio.to_thread(self.count, text, encoding)

    def count_chat(self, messages: bytes, tools: bytes = b"", encoding: str = DEFAULT_ENCODING, images: int = 0) -> int:
        """Input tokens of a chat, from the JSON of its messages and tools; `images` are tokens, by the estimate's rule.

        JSON that cannot be read counts as the text it is.
        """
        try:
            read = _read_messages(messages)
        except (ValueError, RecursionError):
            return self.count(messages.decode("utf-8", "replace"), encoding) + images
        vocabulary = self._vocabularies.get(encoding) or self._vocabulary(encoding)
        tokens = PRIMING_TOKENS + MESSAGE_TOKENS * len(read) + images
        for message in read:
            tokens += self._role(message.role or "", encoding)
            content = message.content
            if content and type(content) is str:
                tokens += vocabulary.count(content)
            elif content:
                tokens += sum([vocabulary.count(text) for text in _texts(content) if text])
            if message.name or message.reasoning_content or message.tool_calls:
                tokens += _beside(message, vocabulary)
        return tokens + self._tools(tools, encoding) if tools else tokens

    def count_input(self, given: bytes, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of an embeddings `input`, as JSON: a text, texts, token ids, or lists of token ids."""
        try:
            value = msgspec.json.decode(given)
        except (ValueError, RecursionError):
            return self.count(given.decode("utf-8", "replace"), encoding)
        return self._input(value, encoding)

    async def count_input_async(self, given: bytes, encoding: str = DEFAULT_ENCODING) -> int:
        """The same; long inputs are counted in a worker thread."""
        if self.at_once(len(given), encoding):
            return self.count_input(given, encoding)
        return await asyncio.to_thread(self.count_input, given, encoding)

    def _input(self, value: Any, encoding: str) -> int:
        if isinstance(value, str):
            return self.count(value, encoding)
        return sum(self._input(each, encoding) for each in value) if isinstance(value, list) else 1

    def _tools(self, tools: bytes, encoding: str) -> int:
        """Tools reach the model in a form of its own; their compact JSON is a little longer than that form."""
        try:
            compact = msgspec.json.format(tools, indent=-1)
        except (ValueError, RecursionError):
            compact = tools
        return self.count(compact.decode("utf-8", "replace"), encoding)

    def at_once(self, chars: int, encoding: str) -> bool:
        """Whether so much text is counted in no time to speak of, and may be on the event loop."""
        vocabulary = self._vocabularies.get(encoding)
        return vocabulary is not None and chars <= vocabulary.thread_chars

    def _vocabulary(self, name: str) -> Remembering:
        found = self._vocabularies.get(name)
        if found is not None:
            return found
        with self._loading:
            if name not in self._vocabularies:
                self._vocabularies[name] = self._loaded_or_nearest(name)
            return self._vocabularies[name]

    def _loaded_or_nearest(self, name: str) -> Remembering:
        try:
            if name in ENCODINGS and self._data_dir is not None:
                return Remembering(TiktokenVocabulary(self._data_dir, name))
            return Remembering(ExtraVocabulary(name))
        except VocabularyError as error:
            _log.warning("counted by another vocabulary", extra={"by": DEFAULT_ENCODING, "reason": str(error)})
            return self._vocabularies[DEFAULT_ENCODING]


@lru_cache(maxsize=1024)
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


_read_messages = msgspec.json.Decoder(list[_Message]).decode


def _beside(message: _Message, vocabulary: Remembering) -> int:
    """Tokens of what few messages have: a name, words that were thought, calls of tools."""
    tokens = 0
    if message.name:
        tokens += NAME_TOKENS + vocabulary.count(message.name)
    if message.reasoning_content:
        tokens += vocabulary.count(message.reasoning_content)
    if message.tool_calls:
        tokens += sum([vocabulary.count(text) for text in _calls(message.tool_calls) if text])
    return tokens


def _texts(content: str | list[dict[str, msgspec.Raw]]) -> list[str]:
    if isinstance(content, str):
        return [content]
    raws = [part[name] for part in content for name in ("text", "refusal") if name in part]
    return [bytes(raw)[1:-1].decode("utf-8", "replace") if b"\\" not in bytes(raw) else _unescaped(raw) for raw in raws]


def _unescaped(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except ValueError:
        return bytes(raw).decode("utf-8", "replace")


def _calls(calls: list[_Call]) -> list[str]:
    texts = []
    for call in calls:
        if call.function is not None:
            given = call.function.arguments
            texts += [
                call.function.name or "",
                given if isinstance(given, str) else msgspec.json.encode(given).decode(),
            ]
    return texts
