"""One connection, without a socket: what of the bytes that come is a reply, and when its connection may serve again.

How backends misbehave on real sockets is played out in test_upstream.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.wire import READ_BUFFER_BYTES, Broken, Exchange, Lost, Wire

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Line(asyncio.Transport):
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.reading = True
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Talk:
    """An exchange under way, and what its end was told to the pool."""

    def __init__(self) -> None:
        self.line, self.wire = Line(), Wire()
        self.wire.connection_made(self.line)
        self.released: list[bool] = []
        self.exchange = self.ask()

    def ask(self) -> Exchange:
        return self.wire.ask(b"POST / HTTP/1.1\r\n\r\n", b"{}", self.released.append)


async def test_a_whole_reply_leaves_the_connection_for_the_next_one() -> None:
    talk = Talk()
    assert talk.line.written == [b"POST / HTTP/1.1\r\n\r\n{}"] and talk.wire.should_close
    talk.wire.data_received(HEAD + b"ok")
    await talk.exchange.head()
    assert (talk.exchange.status, talk.exchange.headers) == (200, [(b"content-length", b"2")])
    assert (await talk.exchange.read(), await talk.exchange.read()) == (b"ok", b"")
    assert talk.released == [True] and talk.wire.is_connected() and not talk.wire.should_close
    second = talk.ask()
    talk.wire.data_received(HEAD + b"no")
    assert await second.read() == b"no"
    talk.exchange.abort()
    assert not talk.line.aborted, "an exchange that is over has no say about the connection"


async def test_a_body_that_is_here_to_its_end_is_taken_without_waiting() -> None:
    talk = Talk()
    talk.wire.data_received(CHUNKED + b"1\r\na\r\n")
    assert talk.exchange.whole() is None
    talk.wire.data_received(b"1\r\nb\r\n0\r\n\r\n")
    assert talk.exchange.whole() == b"ab"
    assert await talk.exchange.read() == b"" and talk.exchange.whole() == b""
    lost = Talk()
    lost.wire.data_received(HEAD + b"o")
    lost.wire.connection_lost(None)
    assert lost.exchange.whole() is None and await lost.exchange.read() == b"o"


async def test_a_reader_waits_on_while_nothing_but_framing_comes() -> None:
    talk, basin = Talk(), Basin()
    talk.wire.data_received(CHUNKED)
    await talk.exchange.head()
    reading = asyncio.ensure_future(talk.exchange.read())
    await asyncio.sleep(0)
    talk.wire.data_received(b"1")
    await asyncio.sleep(0)
    talk.wire.data_received(b"\r\na\r\n")
    assert await reading == b"a"
    flow = await flowing(talk, basin)
    for data in (b"1\r\n", b"b", b"\r\n0\r\n\r\n"):
        talk.wire.data_received(data)
    assert not await flow and basin.taken == [b"b"]


async def test_a_head_is_told_of_before_its_body_and_has_its_names_in_lower_case() -> None:
    talk = Talk()
    waiting = asyncio.ensure_future(talk.exchange.head())
    await asyncio.sleep(0)
    talk.wire.data_received(b"HTTP/1.1 200 OK\r\nContent-")
    await asyncio.sleep(0)
    talk.wire.data_received(b"Length: 2\r\n\r\n")
    await waiting
    assert talk.exchange.headers == [(b"content-length", b"2")] and talk.exchange.pieces == []
    talk.wire.data_received(b"ok")
    assert talk.released == [True], "a length is one however its name is spelt"


async def test_pieces_are_read_as_they_come_and_joined_where_they_wait() -> None:
    talk = Talk()
    talk.wire.data_received(CHUNKED + b"1\r\na\r\n1\r\nb\r\n")
    assert await talk.exchange.read() == b"ab"
    reading = asyncio.ensure_future(talk.exchange.read())
    await asyncio.sleep(0)
    talk.wire.data_received(b"1\r\nc\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert await reading == b"c"
    assert await talk.exchange.read() == b"" and talk.exchange.headers == [(b"transfer-encoding", b"chunked")]


async def test_a_head_of_the_hundreds_is_read_past() -> None:
    talk = Talk()
    talk.wire.data_received(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + b"ok")
    await talk.exchange.head()
    assert (talk.exchange.status, talk.exchange.headers) == (200, [(b"content-length", b"2")])
    assert await talk.exchange.read() == b"ok"


@pytest.mark.parametrize("after", [b"HTTP/1.1 200 OK\r\n", b"garbage"])
async def test_what_comes_behind_a_reply_ends_the_connection(after: bytes) -> None:
    talk = Talk()
    talk.wire.data_received(HEAD + b"ok" + after)
    assert await talk.exchange.read() == b"ok"
    assert talk.line.aborted and not talk.wire.is_connected()


async def test_what_comes_unasked_ends_the_connection() -> None:
    talk = Talk()
    talk.wire.data_received(HEAD + b"ok")
    talk.wire.data_received(HEAD)
    assert talk.line.aborted and not talk.wire.is_connected()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_backend_that_closes_is_not_used_again(said: bytes) -> None:
    talk = Talk()
    talk.wire.data_received(said)
    assert await talk.exchange.read() == b"ok" and await talk.exchange.read() == b""
    assert talk.released == [False] and talk.line.aborted


async def test_a_backend_that_answers_before_the_request_has_left_is_not_used_again() -> None:
    talk = Talk()
    talk.line.unsent = 1
    talk.wire.data_received(HEAD + b"ok")
    assert await talk.exchange.read() == b"ok" and await talk.exchange.read() == b""
    assert talk.released == [False] and talk.line.aborted


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_reply_that_can_have_no_body_ends_with_its_head(status: bytes) -> None:
    talk = Talk()
    talk.wire.data_received(b"HTTP/1.1 " + status + b"\r\n\r\n")
    assert await talk.exchange.read() == b"" and talk.released == [True]


@pytest.mark.parametrize(("framing", "lost", "kind"), [
    (b"", None, None),
    (b"", ConnectionResetError(), Lost),
    (b"content-length: 9\r\n", None, Lost),
    (b"transfer-encoding: chunked\r\n", None, Lost),
])  # fmt: skip
async def test_an_end_of_the_connection_is_an_end_of_the_body_only_where_nothing_frames_it(
    framing: bytes, lost: Exception | None, kind: type[Exception] | None
) -> None:
    talk = Talk()
    body = b"2\r\nok\r\n" if b"chunked" in framing else b"ok"
    talk.wire.data_received(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body)
    talk.wire.connection_lost(lost)
    assert await talk.exchange.read() == b"ok"
    if kind is None:
        assert await talk.exchange.read() == b""
    else:
        with pytest.raises(kind):
            await talk.exchange.read()
    assert talk.released == [False]


async def test_broken_framing_is_told_behind_what_came_before() -> None:
    talk = Talk()
    talk.wire.data_received(CHUNKED + b"2\r\nok\r\nzz\r\n")
    assert await talk.exchange.read() == b"ok"
    with pytest.raises(Broken):
        await talk.exchange.read()
    assert talk.line.aborted and talk.released == [False]


async def test_reading_stops_while_nobody_takes_what_came() -> None:
    talk = Talk()
    much = b"x" * (READ_BUFFER_BYTES + 1)
    talk.wire.data_received(CHUNKED + b"%x\r\n%b\r\n" % (len(much), much))
    assert not talk.line.reading
    assert await talk.exchange.read() == much
    assert talk.line.reading


async def test_a_reply_that_ended_while_reading_was_stopped_lets_the_connection_go_on() -> None:
    talk = Talk()
    much = b"x" * (READ_BUFFER_BYTES + 1)
    talk.wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(much), much))
    assert talk.line.reading and talk.released == [True] and not talk.wire.should_close
    assert await talk.exchange.read() == much


class Basin:
    """A sink that has enough after so many pieces."""

    def __init__(self, room: int = 9) -> None:
        self.room = room
        self.taken: list[bytes] = []

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        return len(self.taken) < self.room


async def flowing(talk: Talk, sink: Basin) -> asyncio.Task[bool]:
    flow = asyncio.create_task(talk.exchange.flow(sink))
    await asyncio.sleep(0)
    return flow


async def test_a_sink_is_given_each_piece_in_the_step_in_which_it_comes() -> None:
    talk, basin = Talk(), Basin()
    talk.wire.data_received(CHUNKED + b"1\r\na\r\n")
    flow = await flowing(talk, basin)
    assert basin.taken == [b"a"]
    talk.wire.data_received(b"1\r\nb\r\n2\r\ncd\r\n")
    talk.wire.data_received(b"1\r\n")
    assert basin.taken == [b"a", b"bcd"] and not flow.done()
    talk.wire.data_received(b"e\r\n0\r\n\r\n")
    assert await flow is False
    assert basin.taken == [b"a", b"bcd", b"e"] and talk.released == [True]


async def test_what_comes_once_a_sink_has_enough_waits_for_the_next() -> None:
    talk, basin = Talk(), Basin(room=1)
    talk.wire.data_received(CHUNKED)
    flow = await flowing(talk, basin)
    for piece in (b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n"):
        talk.wire.data_received(piece)
    assert basin.taken == [b"a"] and await flow
    assert await talk.exchange.flow(basin) and basin.taken == [b"a", b"bc"]
    much = b"x" * (READ_BUFFER_BYTES + 1)
    talk.wire.data_received(b"%x\r\n%b\r\n" % (len(much), much))
    assert not talk.line.reading
    assert await talk.exchange.flow(basin) and talk.line.reading and basin.taken[2:] == [much]


async def test_what_a_sink_raises_ends_the_exchange() -> None:
    def refuses(_: bytes) -> bool:
        raise ValueError("no")

    talk = Talk()
    talk.wire.data_received(CHUNKED)
    flow = asyncio.create_task(talk.exchange.flow(refuses))
    await asyncio.sleep(0)
    talk.wire.data_received(b"1\r\na\r\n")
    with pytest.raises(ValueError, match="no"):
        await flow
    assert talk.line.aborted and talk.released == [False]


async def test_a_sink_hears_of_a_break_behind_what_came_before() -> None:
    talk, basin = Talk(), Basin()
    talk.wire.data_received(CHUNKED)
    flow = await flowing(talk, basin)
    talk.wire.data_received(b"2\r\nok\r\nzz\r\n")
    with pytest.raises(Broken):
        await flow
    assert basin.taken == [b"ok"]


async def test_nothing_flows_any_more_from_the_moment_in_which_its_task_is_cancelled() -> None:
    talk, basin = Talk(), Basin()
    talk.wire.data_received(CHUNKED)
    flow = await flowing(talk, basin)
    flow.cancel()
    talk.wire.data_received(b"1\r\na\r\n")
    with pytest.raises(asyncio.CancelledError):
        await flow
    assert basin.taken == [] and talk.line.aborted


async def test_leaving_closes_the_socket_and_a_pool_hears_of_it() -> None:
    talk = Talk()
    closed = talk.wire.closed
    reading = asyncio.ensure_future(talk.exchange.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert talk.line.aborted and talk.released == [False]
    talk.wire.connection_lost(None)
    assert closed is not None and closed.done() and talk.wire.closed is None
    with pytest.raises(Lost):
        await talk.exchange.head()


async def test_a_connection_that_is_gone_takes_no_request() -> None:
    talk = Talk()
    talk.wire.connection_lost(None)
    with pytest.raises(Lost):
        await talk.ask().head()
