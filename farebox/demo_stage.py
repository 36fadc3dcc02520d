"""Where the demo's words appear: plain text as it comes, wrapped; colour only for a person at a terminal."""

from __future__ import annotations

import os
from typing import TextIO

_WIDTH = 100
_INDENT = "     "
_BOLD, _DIM, _END = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Stage:
    """Writes to ``out`` and flushes each time: an answer is seen as it arrives, also through a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self._column = 0

    def title(self, text: str) -> None:
        """A line that begins something."""
        self._write(f"\n{self._styled(text, _BOLD)}\n")

    def line(self, text: str = "") -> None:
        """One line about what happens."""
        self._write(f"{_INDENT}{text}\n")

    def aside(self, text: str) -> None:
        """One line of less weight."""
        self._write(f"{_INDENT}{self._styled(text, _DIM)}\n")

    def speak(self, piece: str) -> None:
        """The next piece of an answer, without waiting for the rest of its line."""
        if not self._column:
            self._begin("| ")
        elif self._column + len(piece) > _WIDTH:
            self._begin("\n" + _INDENT + "| ")
            piece = piece.lstrip()
        self._column += len(piece)
        self._write(piece)

    def spoken(self) -> None:
        """The answer is over."""
        self._write("\n" if self._column else "")
        self._column = 0

    def _begin(self, text: str) -> None:
        self._write(text if text.startswith("\n") else _INDENT + text)
        self._column = len(_INDENT) + 2

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_END}" if self._colour else text

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
