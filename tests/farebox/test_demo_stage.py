"""What a person sees: pieces wrapped as they come, colour only at a terminal."""

from __future__ import annotations

import io

import pytest

from farebox.demo_stage import Stage


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _said(*pieces: str) -> str:
    out = io.StringIO()
    stage = Stage(out)
    for piece in pieces:
        stage.speak(piece)
    stage.spoken()
    return out.getvalue()


def test_pieces_join_as_they_come() -> None:
    assert _said("Hello", ",", " world", ".") == "     | Hello, world.\n"


def test_a_long_answer_is_wrapped_between_pieces() -> None:
    lines = _said(*[" seven7"] * 30).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 100 and line.startswith("     |") for line in lines)
    assert sum(line.count("seven7") for line in lines) == 30


def test_nothing_spoken_is_no_line() -> None:
    assert _said() == ""


def test_a_pipe_gets_no_colour_and_a_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    pipe, terminal = io.StringIO(), _Terminal()
    for out in (pipe, terminal):
        Stage(out).title("Title")
    assert "\x1b" not in pipe.getvalue()
    assert "\x1b" in terminal.getvalue()


def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = _Terminal()
    Stage(terminal).title("Title")
    assert "\x1b" not in terminal.getvalue()
