"""What Redis is asked, as it travels: an array of parts, each behind its length. Pure.

Of a script's parts nearly all follow from the windows of a call, the rest from its user and from itself. A `Form` has
the first ones written out, with a gap in each key for its user: filling it costs a third of packing every part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files

from hiredis import Reader, pack_command

Word = str | bytes | int
Words = tuple[Word, ...]


def packed(*words: Word) -> bytes:
    """The command of these parts."""
    command: bytes = pack_command(words)  # type: ignore[arg-type] # their stub: 1-tuples
    return command


def unpacked(command: bytes) -> list[bytes]:
    """The parts of a command."""
    reader = Reader()
    reader.feed(command)
    parts: list[bytes] = reader.gets()
    return parts


class Script:
    """One Lua file, asked for by its digest."""

    def __init__(self, name: str) -> None:
        text = files("policies").joinpath(f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._by_sha, self._by_text = _parts(("EVALSHA", self.sha)), _parts(("EVAL", text))

    def asked(self, keys: Sequence[str], args: Iterable[Word]) -> bytes:
        return packed("EVALSHA", self.sha, len(keys), *keys, *args)

    def by_text(self, command: bytes) -> bytes:
        """The same command, for a Redis that does not know the script yet."""
        return command.replace(self._by_sha, self._by_text, 1)


class Form:
    """The command of a script (by its digest) whose keys begin with a user's name of `size` bytes and end with these
    `suffixes`. Behind the keys, of which there are `more`, stand the `fixed` arguments, and then `varying` ones."""

    __slots__ = ("_fixed", "_keys")

    def __init__(self, sha: str, size: int, suffixes: Sequence[str], more: int, fixed: Words, varying: int) -> None:
        keys = len(suffixes) + more
        line = b"*%d\r\n" % (3 + keys + len(fixed) + varying) + _parts(("EVALSHA", sha, keys))
        pieces: list[bytes] = []
        for suffix in (suffix.encode() for suffix in suffixes):
            pieces.append(line + b"$%d\r\n" % (size + len(suffix)))
            line = suffix + b"\r\n"
        self._keys = (*pieces, line)
        self._fixed = _parts(fixed)

    def filled(self, name: bytes, more: Words, varying: Words) -> bytes:
        """The command for the user of this name, with so many `more` keys and `varying` arguments as was said."""
        keys = name.join(self._keys)
        if more:
            keys += _parts(more)
        return keys + self._fixed + _parts(varying)


def _parts(words: Words) -> bytes:
    """Parts of a command, without the line that says how many it has."""
    command: bytes = pack_command(words)  # type: ignore[arg-type] # their stub: 1-tuples
    return command.split(b"\r\n", 1)[1]
