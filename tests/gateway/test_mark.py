"""The end of a stream: what may still come behind its mark, and how long it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway import mark
from gateway.filter import StreamFilter
from gateway.mark import flowed, to_the_end, until_marked
from gateway.meter import StreamMeter
from gateway.passage import Passage
from gateway.upstream import Reply, UpstreamFailure
from tests.gateway.test_passage import Somebody
from tests.streams import DONE, delta


class Pieces:
    """A body of these pieces; behind them its end, a failure, or nothing for ever."""

    def __init__(self, *pieces: bytes, end: Exception | None = None, stalls: bool = False) -> None:
        self.pieces = list(pieces)
        self.end = end
        self.stalls = stalls
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.stalls:
            await self.closed.wait()
        if self.end is not None:
            raise self.end
        return b""

    async def flow(self, sink: Callable[[bytes], bool]) -> bool:
        while piece := await self.read():
            if not sink(piece):
                return True
        return False

    def close(self) -> None:
        self.closed.set()

    @property
    def reply(self) -> Reply:
        return cast(Reply, self)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mark, "_AT_ONCE_S", 0.05)


def _passage() -> tuple[Somebody, Passage]:
    call = Somebody()
    return call, call.passage


async def test_an_answer_flows_until_its_task_is_needed() -> None:
    call, passage = _passage()
    assert await flowed(Pieces(delta("abc"), DONE, delta("never")).reply, passage)
    assert call.written == [delta("abc")] and passage.tap.done
    assert not await flowed(Pieces(delta("abc")).reply, _passage()[1])


@pytest.mark.parametrize("body", [{}, {"stalls": True}, {"end": UpstreamFailure("reset")}])
async def test_behind_the_mark_nothing_is_waited_for_long(body: dict[str, Any]) -> None:
    _, passage = _passage()
    passage.take(DONE)
    assert not await flowed(Pieces(**body).reply, passage)


async def test_what_comes_at_once_behind_the_mark_is_taken() -> None:
    _, passage = _passage()
    passage.take(DONE)
    assert await flowed(Pieces(b": more\n\n").reply, passage)
    assert passage.tap.terminal == DONE + b": more\n\n"


def _tap(*fed: bytes) -> StreamFilter:
    tap = StreamFilter(StreamMeter(len), usage_wanted=False)
    for piece in fed:
        tap.feed(piece)
    return tap


async def test_the_blank_line_of_the_mark_may_come_later() -> None:
    tap = _tap(delta("abc"), b"data: [DONE]\n")
    await until_marked(Pieces(b"\n").reply, tap)
    assert tap.terminal == DONE


@pytest.mark.parametrize("fed", [(delta("abc"),), (delta("abc"), DONE)])
async def test_a_stream_without_a_mark_or_with_a_whole_one_is_not_waited_for(fed: tuple[bytes, ...]) -> None:
    body = Pieces(stalls=True)
    await until_marked(body.reply, _tap(*fed))
    assert not body.closed.is_set()


@pytest.mark.parametrize("body", [{"stalls": True}, {"end": UpstreamFailure("reset")}])
async def test_a_mark_that_never_ends_closes_the_connection(body: dict[str, Any]) -> None:
    pieces, tap = Pieces(**body), _tap(b"data: [DONE]\n")
    await until_marked(pieces.reply, tap)
    assert pieces.closed.is_set() and tap.terminal == b"data: [DONE]\n"


@pytest.mark.parametrize("body", [{"stalls": True}, {"end": UpstreamFailure("reset")}])
async def test_a_body_that_does_not_end_is_closed(body: dict[str, Any]) -> None:
    pieces = Pieces(b"\n", **body)
    await to_the_end(pieces.reply)
    assert pieces.closed.is_set()


async def test_one_that_ends_leaves_its_connection_open() -> None:
    pieces = Pieces(b"\n")
    await to_the_end(pieces.reply)
    assert not pieces.closed.is_set() and not pieces.pieces
