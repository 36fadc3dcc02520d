"""Folded stacks and their reading."""

from __future__ import annotations

from bench.folded import own, reading, room, stacks, within

TEXT = """\
_run (<frozen runpy>:88);run (/usr/lib/python3.11/asyncio/runners.py:118);call (gateway/app.py:5) 30
_run (<frozen runpy>:88);run (/usr/lib/python3.11/asyncio/runners.py:118);call (gateway/app.py:9);send (/x/.venv/lib/python3.11/site-packages/uvicorn/h.py:2) 10
_bootstrap (/usr/lib/python3.11/threading.py:1);_worker (/usr/lib/python3.11/concurrent/futures/thread.py:81) 500
call (gateway/app.py:5);call (gateway/app.py:6);epoll_wait (libc.so.6) 20
not a stack
"""  # noqa: E501


def test_idle_threads_and_the_way_to_the_loop_are_left_out() -> None:
    seen = list(stacks(TEXT))
    assert [stack.count for stack in seen] == [30, 10, 20]
    assert seen[0].frames == ("asyncio/runners.py:run", "gateway/app.py:call")


def test_a_function_has_its_own_time_and_that_of_what_it_calls() -> None:
    seen = list(stacks(TEXT))
    assert own(seen) == {"gateway/app.py:call": 30, "uvicorn/h.py:send": 10, "libc.so.6:epoll_wait": 20}
    assert within(seen)["gateway/app.py:call"] == 60  # once a stack, however often it is in there


def test_rooms_are_the_first_part_of_a_path() -> None:
    assert [room(name) for name in ("gateway/app.py:call", "uvicorn/h.py:send", "libc.so.6:x", ":y")] == [
        "gateway", "uvicorn", "libc.so.6", "native",
    ]  # fmt: skip


def test_a_reading_says_microseconds_for_each_call() -> None:
    lines = list(reading(TEXT, 120.0, "call"))
    assert lines[0] == "60 samples; CPU for each call: 120.0 µs."
    assert "     60.00   50.0%  gateway" in lines
    assert "    120.00  100.0%  gateway/app.py:call" in lines
    assert list(reading("", 1.0, "call")) == ["Nothing was sampled."]
