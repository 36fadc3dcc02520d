"""The way of a reply to its caller: what is written, and that one field never becomes two."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from farebox.cycle import Cycle
from gateway.downstream import WRITE

DATE = (b"date", b"today")


class Line:
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Not looked at."""

    def resume_reading(self) -> None:
        """Not looked at."""


class Talk:
    """A request that wants its reply."""

    def __init__(self, method: str = "POST", keep_alive: bool = True) -> None:
        self.line, self.ended = Line(), 0
        line: Any = self.line
        log = logging.getLogger("test")
        scope: Any = {"method": method}
        self.flow = FlowControl(line)
        self.cycle = Cycle(
            scope, line, self.flow, log, log, False, [DATE], asyncio.Event(), False, keep_alive, self.end
        )

    def end(self) -> None:
        self.ended += 1

    async def reply(self, status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> bytes:
        await self.cycle.send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces[:-1]:
            await self.cycle.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.cycle.send({"type": "http.response.body", "body": pieces[-1]})
        return self.line.written


async def test_a_whole_reply_is_written_with_its_length() -> None:
    talk = Talk()
    written = await talk.reply(200, [(b"x-request-id", b"1"), (b"content-length", b"2")], b"ok")
    assert written == b"HTTP/1.1 200 OK\r\ndate: today\r\nx-request-id: 1\r\ncontent-length: 2\r\n\r\nok"
    assert talk.cycle.response_complete and talk.ended == 1 and not talk.line.closed


async def test_a_stream_is_written_in_chunks() -> None:
    talk = Talk()
    written = await talk.reply(200, [(b"X-Name", b"1")], b"one", b"", b"two", b"")
    head, _, body = written.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ndate: today\r\nx-name: 1\r\ntransfer-encoding: chunked"
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("field", [(b"x", b"1\r\ny: 2"), (b"x\n", b"1"), (b"x", b"1\0")])
async def test_a_field_that_would_become_two_is_not_sent(field: tuple[bytes, bytes]) -> None:
    talk = Talk()
    with pytest.raises(RuntimeError):
        await talk.cycle.send({"type": "http.response.start", "status": 200, "headers": [field]})
    assert talk.line.written == b"" and not talk.cycle.response_started


async def test_a_connection_that_is_to_end_says_so_and_ends() -> None:
    talk = Talk(keep_alive=False)
    written = await talk.reply(200, [(b"content-length", b"2")], b"ok")
    assert b"connection: close\r\n" in written and talk.line.closed


async def test_an_application_may_end_its_connection() -> None:
    talk = Talk()
    written = await talk.reply(200, [(b"connection", b"close"), (b"content-length", b"2")], b"ok")
    assert written.count(b"connection: close") == 1 and talk.line.closed


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204)])
async def test_a_reply_that_can_have_no_body_gets_none(method: str, status: int) -> None:
    written = await Talk(method).reply(status, [], b"")
    assert written.endswith(b"date: today\r\n\r\n")


async def test_what_is_longer_than_it_said_is_not_sent() -> None:
    with pytest.raises(RuntimeError):
        await Talk().reply(200, [(b"content-length", b"2")], b"long")


async def test_nothing_is_written_to_a_caller_who_left() -> None:
    talk = Talk()
    talk.cycle.disconnected = True
    assert await talk.reply(200, [], b"one", b"two") == b""


async def test_a_caller_who_does_not_read_is_waited_for() -> None:
    talk = Talk()
    await talk.cycle.send({"type": "http.response.start", "status": 200, "headers": []})
    talk.flow.pause_writing()
    head = talk.line.written
    sending = asyncio.ensure_future(talk.cycle.send({"type": "http.response.body", "body": b"one", "more_body": True}))
    await asyncio.sleep(0.01)
    assert talk.line.written == head
    talk.flow.resume_writing()
    await sending
    assert talk.line.written == head + b"3\r\none\r\n"


async def writer(talk: Talk, *headers: tuple[bytes, bytes]) -> Any:
    await talk.cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
    asked: dict[str, Any] = {"type": WRITE}
    await talk.cycle.send(asked)
    talk.line.written = b""
    return asked["write"]


async def test_a_piece_of_a_stream_may_be_written_without_a_message() -> None:
    talk = Talk()
    write = await writer(talk)
    assert write(b"one") and not write(b"")
    await talk.cycle.send({"type": "http.response.body", "body": b"two"})
    assert talk.line.written == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert not write(b"late") and talk.ended == 1


async def test_what_would_have_to_wait_is_not_taken() -> None:
    talk = Talk()
    write = await writer(talk)
    talk.flow.pause_writing()
    assert not write(b"one")
    talk.flow.resume_writing()
    assert write(b"one")
    talk.cycle.disconnected = True
    assert not write(b"two") and talk.line.written == b"3\r\none\r\n"


async def test_a_body_whose_length_was_told_is_not_written_in_pieces() -> None:
    talk = Talk()
    write = await writer(talk, (b"content-length", b"3"))
    assert not write(b"one") and talk.line.written == b""


async def test_a_head_waits_for_no_more_than_the_first_of_its_body() -> None:
    talk = Talk()
    written = await talk.reply(200, [(b"content-length", b"6")], b"one", b"two")
    assert written.endswith(b"content-length: 6\r\n\r\nonetwo") and talk.cycle.response_complete


async def test_a_head_that_waited_while_the_caller_did_not_read_comes_before_its_body() -> None:
    talk = Talk()
    await talk.cycle.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    talk.flow.pause_writing()
    sending = asyncio.ensure_future(talk.cycle.send({"type": "http.response.body", "body": b"one"}))
    await asyncio.sleep(0.01)
    assert talk.line.written == b""
    talk.flow.resume_writing()
    await sending
    assert talk.line.written.startswith(b"HTTP/1.1 200 OK\r\n") and talk.line.written.endswith(b"\r\n\r\none")


async def test_a_server_that_is_to_end_closes_behind_a_reply_that_had_begun() -> None:
    talk = Talk()
    await talk.cycle.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    talk.cycle.keep_alive = False
    await talk.cycle.send({"type": "http.response.body", "body": b"one"})
    assert talk.line.closed and talk.ended == 1
