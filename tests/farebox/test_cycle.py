"""A request and its reply: what is written, that one field never becomes two, and who hears that a caller has left."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from farebox.cycle import Cycle
from gateway.downstream import WHOLE, WRITE

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
        self.flow = FlowControl(line)
        self.transport, self.logger, self.tasks = line, logging.getLogger("test"), set[Any]()
        self.server_state = SimpleNamespace(default_headers=[DATE])
        self.cycle = Cycle(self, {"method": method}, False, keep_alive)

    def on_response_complete(self) -> None:
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


async def in_one(talk: Talk, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    await talk.cycle.send({"type": "http.response.start", "status": status, "headers": headers, WHOLE: body})
    return talk.line.written


@pytest.mark.parametrize("headers", [[(b"content-length", b"2")], [], [(b"connection", b"close")], [(b"X-Name", b"1")]])
@pytest.mark.parametrize(("method", "status", "keep_alive"), [("POST", 200, True), ("POST", 404, False)])
async def test_a_reply_in_one_message_is_written_as_one_in_two(
    headers: list[tuple[bytes, bytes]], method: str, status: int, keep_alive: bool
) -> None:
    one, two = Talk(method, keep_alive), Talk(method, keep_alive)
    assert await in_one(one, status, headers, b"ok") == await two.reply(status, headers, b"ok")
    assert one.cycle.response_complete and one.ended == 1 and one.line.closed == two.line.closed


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204)])
async def test_a_reply_in_one_message_that_can_have_no_body_gets_none(method: str, status: int) -> None:
    talk = Talk(method)
    assert (await in_one(talk, status, [], b"")).endswith(b"date: today\r\n\r\n") and talk.cycle.response_complete


@pytest.mark.parametrize("body", [b"", b"too long"])
async def test_a_reply_in_one_message_is_as_long_as_it_says(body: bytes) -> None:
    talk = Talk()
    with pytest.raises(RuntimeError):
        await in_one(talk, 200, [(b"content-length", b"2")], body)
    assert not talk.cycle.response_complete


async def test_a_reply_in_one_message_waits_for_a_caller_who_does_not_read_and_not_for_one_who_left() -> None:
    talk, gone = Talk(), Talk()
    talk.flow.pause_writing()
    sending = asyncio.ensure_future(in_one(talk, 200, [(b"content-length", b"2")], b"ok"))
    await asyncio.sleep(0.01)
    assert talk.line.written == b""
    talk.flow.resume_writing()
    assert (await sending).endswith(b"\r\n\r\nok")
    gone.cycle.disconnected = True
    assert await in_one(gone, 200, [(b"content-length", b"2")], b"ok") == b""


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


async def test_a_body_that_is_here_is_taken_once_and_one_that_is_not_is_left_to_come() -> None:
    talk = Talk()
    talk.cycle.body += b"half"
    assert talk.cycle.take_body() is None
    talk.cycle.body += b"whole"
    talk.cycle.more_body = False
    assert talk.cycle.take_body() == b"halfwhole" and talk.cycle.take_body() == b""


@pytest.mark.parametrize("state", ["waiting_for_100_continue", "disconnected"])
async def test_a_body_to_be_asked_for_or_without_its_caller_is_not_taken(state: str) -> None:
    talk = Talk()
    talk.cycle.more_body = False
    setattr(talk.cycle, state, True)
    assert talk.cycle.take_body() is None


async def test_that_the_caller_has_left_is_told_once() -> None:
    talk, told = Talk(), list[str]()
    talk.flow.pause_reading()
    talk.cycle.when_gone(lambda: told.append("gone"))
    assert not talk.flow.read_paused  # else nobody would see it
    talk.cycle.gone()
    talk.cycle.gone()
    assert told == ["gone"] and talk.cycle.disconnected


async def test_that_the_caller_left_before_anybody_asked_is_told_at_once() -> None:
    talk, told = Talk(), list[str]()
    talk.cycle.disconnected = True
    talk.cycle.when_gone(lambda: told.append("gone"))
    assert told == ["gone"]


async def test_a_connection_that_was_lost_before_anybody_asked_is_told_at_once() -> None:
    """Another request waits behind this one: the server itself has marked that one alone."""
    talk, told = Talk(), list[str]()
    talk.cycle.more_body = False
    waiting = asyncio.ensure_future(talk.cycle.receive())
    assert (await waiting)["type"] == "http.request"
    waiting = asyncio.ensure_future(talk.cycle.receive())
    await asyncio.sleep(0)
    talk.cycle.gone()
    assert (await asyncio.wait_for(waiting, 5))["type"] == "http.disconnect"
    talk.cycle.when_gone(lambda: told.append("gone"))
    assert told == ["gone"] and talk.cycle.disconnected


async def test_a_caller_who_has_the_whole_reply_or_is_asked_about_no_longer_leaves_unnoticed() -> None:
    talk, told = Talk(), list[str]()
    talk.cycle.when_gone(lambda: told.append("gone"))
    talk.cycle.when_gone(None)
    talk.cycle.gone()
    answered = Talk()
    answered.cycle.when_gone(lambda: told.append("gone"))
    await answered.reply(200, [(b"content-length", b"2")], b"ok")
    answered.cycle.gone()
    assert told == []


async def test_what_the_server_ends_is_told_where_it_wants_to_be_and_cancelled_where_not() -> None:
    talk, told = Talk(), list[str]()
    talk.cycle.task = asyncio.create_task(asyncio.sleep(60))
    talk.cycle.when_gone(lambda: told.append("gone"))
    talk.cycle.cancel("enough")
    assert told == ["gone"] and not talk.cycle.task.cancelling()
    talk.cycle.when_gone(None)
    talk.cycle.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await talk.cycle.task


async def test_who_receives_gets_the_body_and_then_waits_for_the_end() -> None:
    talk = Talk()
    talk.cycle.body += b"whole"
    talk.cycle.more_body = False
    assert await talk.cycle.receive() == {"type": "http.request", "body": b"whole", "more_body": False}
    waiting = asyncio.ensure_future(talk.cycle.receive())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await talk.reply(200, [(b"content-length", b"2")], b"ok")
    assert await waiting == {"type": "http.disconnect"}


async def test_who_took_the_body_receives_nothing_but_the_end() -> None:
    talk = Talk()
    talk.cycle.body += b"whole"
    talk.cycle.more_body = False
    assert talk.cycle.take_body() == b"whole"
    waiting = asyncio.ensure_future(talk.cycle.receive())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await talk.reply(200, [(b"content-length", b"2")], b"ok")
    assert await waiting == {"type": "http.disconnect"}


async def test_a_body_still_to_come_is_waited_for() -> None:
    talk = Talk()
    waiting = asyncio.ensure_future(talk.cycle.receive())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    talk.cycle.body += b"late"
    talk.cycle.message_event.set()
    assert (await waiting)["body"] == b"late"


async def run(talk: Talk, app: Any) -> bytes:
    talk.tasks.add(talk.cycle)
    await talk.cycle.run_asgi(app)
    assert not talk.tasks
    return talk.line.written


async def test_an_application_that_fails_before_its_reply_is_answered_for() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
        """Not a word."""

    for app in (fails, says_nothing):
        talk = Talk()
        assert (await run(talk, app)).startswith(b"HTTP/1.1 500 ") and talk.line.closed


async def test_an_application_that_ends_in_the_middle_of_its_reply_is_broken_off_and_wants_no_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    talk = Talk()
    assert (await run(talk, half)).startswith(b"HTTP/1.1 200 ") and talk.line.closed and not caplog.records


async def test_an_application_that_answers_leaves_the_connection_open() -> None:
    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    talk = Talk()
    assert (await run(talk, answers)).endswith(b"ok") and not talk.line.closed
