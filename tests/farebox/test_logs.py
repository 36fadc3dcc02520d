"""Log lines are JSON, one a line, whoever wrote them, and hold no secret that is kept as one."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from farebox.logs import set_up_logs


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == "", "standard output is for the lines of calls"
    return [json.loads(line) for line in err.splitlines()]


def test_whoever_logs_writes_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")
    logging.getLogger("farebox.x").info("serving", extra={"url": "http://here"})
    logging.getLogger("somebody.else").warning("sweep put off", extra={"step": "reap", "calls": 3})
    first, second = _lines(capsys)
    assert (first["event"], first["url"], first["level"], first["logger"]) == (
        "serving",
        "http://here",
        "info",
        "farebox.x",
    )
    assert (second["event"], second["step"], second["calls"], second["level"]) == (
        "sweep put off",
        "reap",
        3,
        "warning",
    )
    assert first["timestamp"].endswith("Z")


def test_below_the_level_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warning")
    logging.getLogger("farebox.y").info("chatter")
    logging.getLogger("somebody.else").info("chatter")
    assert _lines(capsys) == []


def test_chatty_libraries_are_quiet_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("debug")
    logging.getLogger("httpx").info("GET https://somewhere")
    assert _lines(capsys) == []


def test_a_failure_is_one_line_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logging.getLogger("farebox.y").exception("call failed", extra={"request_id": UUID(int=7)})
    (line,) = _lines(capsys)
    assert "ValueError: broken" in line["exception"] and line["request_id"].endswith("7")


def test_a_secret_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")
    logging.getLogger("farebox.x").info("started", extra={"key": SecretStr("sk-very-secret")})
    (line,) = _lines(capsys)
    assert "sk-very-secret" not in str(line)
