"""One line a call, by a thread of its own, and never a call that waits for a reader."""

from __future__ import annotations

import io
import os
import threading
from uuid import UUID

import msgspec
import pytest

from gateway import calllog
from gateway.calllog import CallLog


def test_lines_come_out_in_order_and_all_of_them_by_the_end() -> None:
    out = io.BytesIO()
    dropped: list[int] = []
    log = CallLog(out, dropped=dropped.append)
    log.start()
    for index in range(1000):
        log.write({"n": index, "id": UUID(int=index)})
    log.stop()
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    assert [line["n"] for line in lines] == list(range(1000))
    assert lines[7]["id"] == str(UUID(int=7)) and not dropped


def test_a_text_cannot_begin_a_second_line() -> None:
    out = io.BytesIO()
    log = CallLog(out)
    log.start()
    log.write({"model": "two\nlines\r\u2028"})
    log.stop()
    assert out.getvalue().count(b"\n") == 1 and b"\r" not in out.getvalue()


def test_when_nobody_reads_lines_are_dropped_and_counted_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllog, "_QUEUE_MAX", 10)
    opened = threading.Event()
    out = Slow(opened)
    dropped: list[int] = []
    log = CallLog(out, dropped=dropped.append)
    log.start()
    for index in range(50):
        log.write({"n": index})
    assert sum(dropped) >= 30  # ten wait, and ten may be in the writer's hands
    opened.set()
    log.stop()
    assert len(out.getvalue().splitlines()) == 50 - sum(dropped)


class Slow(io.BytesIO):
    """Takes nothing before it may."""

    def __init__(self, opened: threading.Event) -> None:
        super().__init__()
        self._opened = opened

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._opened.wait(10)
        return super().write(data)


def test_a_reader_that_went_away_ends_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    dropped: list[int] = []
    with os.fdopen(write, "wb", buffering=0) as out:
        log = CallLog(out, dropped=dropped.append)
        log.start()
        log.write({"n": 1})
        log.stop()
    assert sum(dropped) == 1


def test_what_is_done_beside_is_done_to_the_end_and_ends_no_log() -> None:
    rounds: list[int] = []

    def beside() -> None:
        rounds.append(len(rounds))
        raise ZeroDivisionError

    out = io.BytesIO()
    log = CallLog(out, beside)
    log.start()
    log.write({"n": 1})
    log.stop()
    assert rounds and msgspec.json.decode(out.getvalue()) == {"n": 1}


def test_a_log_that_never_began_can_be_stopped() -> None:
    CallLog(io.BytesIO()).stop()
