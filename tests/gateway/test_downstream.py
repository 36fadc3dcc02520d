"""The caller's side: bodies within their bounds, and who has left."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from gateway.downstream import (
    CALLER,
    WHOLE,
    WRITE,
    CallerLeft,
    Message,
    Receive,
    body_at_hand,
    hand_on,
    read_body,
    send_reply,
    until_gone,
    write_of,
)
from gateway.errors import Refusal

GONE = {"type": "http.disconnect"}


def body(*pieces: bytes, more_at_end: bool = False) -> list[Message]:
    last = len(pieces) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": at < last or more_at_end}
        for at, piece in enumerate(pieces)
    ]


def caller(messages: list[Message], *, stalls: bool = False) -> Receive:
    """A caller who says these things; then it has left, or says nothing."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting and stalls:
            await asyncio.Event().wait()
        return waiting.pop(0) if waiting else dict(GONE)

    return receive


async def read(messages: list[Message], *, headers: Any = (), stalls: bool = False, timeout_s: float = 30) -> bytes:
    scope = {"type": "http", "headers": list(headers)}
    return await read_body(scope, caller(messages, stalls=stalls), bytes_max=10, timeout_s=timeout_s)


async def refused(messages: list[Message], **more: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await read(messages, **more)
    return caught.value


async def test_a_body_is_read_whole_in_one_piece_or_several() -> None:
    assert await read(body(b"0123456789")) == b"0123456789"
    assert await read(body(b"0123", b"", b"456789")) == b"0123456789"
    assert await read(body(b"")) == b""


@pytest.mark.parametrize("pieces", [[b"01234567890"], [b"01234", b"567890"]])
async def test_a_body_over_the_bound_is_refused(pieces: list[bytes]) -> None:
    refusal = await refused(body(*pieces))
    assert refusal.code == "request_too_large" and "10 bytes" in refusal.message


async def test_an_endless_body_is_refused_at_the_bound() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refusal):
        await read_body({"headers": []}, receive, bytes_max=10, timeout_s=30)


async def test_a_length_over_the_bound_is_refused_before_anything_is_read() -> None:
    refusal = await refused([], headers=[(b"content-length", b"11")], stalls=True)
    assert refusal.code == "request_too_large"
    assert await read(body(b"x"), headers=[(b"content-length", b"10")]) == b"x"
    assert await read(body(b"x"), headers=[(b"content-length", b"nonsense")]) == b"x"


@pytest.mark.parametrize("messages", [[], body(b"01", more_at_end=True)])
async def test_a_body_that_does_not_come_is_refused_in_time(messages: list[Message]) -> None:
    assert (await refused(messages, stalls=True, timeout_s=0.05)).code == "request_timeout"


@pytest.mark.parametrize("messages", [[], body(b"01", more_at_end=True)])
async def test_a_caller_who_leaves_before_its_body_is_whole_is_gone(messages: list[Message]) -> None:
    with pytest.raises(CallerLeft):
        await read(messages)


async def test_a_compressed_body_is_refused_and_identity_is_none() -> None:
    assert (await refused(body(b"x"), headers=[(b"content-encoding", b"gzip")])).param == "content-encoding"
    assert await read(body(b"x"), headers=[(b"content-encoding", b"Identity")]) == b"x"


# A body that is handed on as it arrives


async def handed_on(
    receive: Receive,
    *,
    headers: Any = (),
    taken: list[bytes] | None = None,
    pause_s: float = 30,
    timeout_s: float = 30,
) -> list[bytes]:
    """The pieces, in the order they were taken."""
    pieces: list[bytes] = [] if taken is None else taken

    async def take(piece: bytes) -> None:
        pieces.append(piece)

    scope = {"type": "http", "headers": list(headers)}
    await hand_on(scope, receive, take, bytes_max=10, pause_s=pause_s, timeout_s=timeout_s)
    return pieces


async def test_each_piece_is_handed_on_as_it_came() -> None:
    assert await handed_on(caller(body(b"0123", b"", b"456789"))) == [b"0123", b"", b"456789"]
    assert await handed_on(caller(body(b""))) == [b""]


async def test_nothing_more_is_received_while_a_piece_is_being_taken() -> None:
    received = 0
    taking, go_on = asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x", "more_body": received < 3}

    async def take(piece: bytes) -> None:
        taking.set()
        await go_on.wait()

    handing = asyncio.ensure_future(hand_on({"headers": []}, receive, take, bytes_max=10, pause_s=0.01, timeout_s=60))
    await taking.wait()
    await asyncio.sleep(0.03)
    assert received == 1
    go_on.set()
    await handing
    assert received == 3


@pytest.mark.parametrize("pieces", [[b"01234567890"], [b"01234", b"567890"]])
async def test_a_piece_over_the_bound_is_not_handed_on(pieces: list[bytes]) -> None:
    taken: list[bytes] = []
    for headers in ((), [(b"content-length", b"11")]):
        with pytest.raises(Refusal) as refused:
            await handed_on(caller(body(*pieces)), headers=headers, taken=taken)
        assert (refused.value.code, refused.value.details["limit"]) == ("request_too_large", "upload_bytes_max")
    assert len(b"".join(taken)) <= 10


async def test_who_stops_trickles_or_leaves_ends_the_handing_on() -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"", "more_body": True}

    stalling = caller(body(b"0", more_at_end=True), stalls=True)
    for receive, pause_s, timeout_s in ((stalling, 0.05, 30), (trickle, 30, 0.1)):
        with pytest.raises(Refusal) as refused:
            await handed_on(receive, pause_s=pause_s, timeout_s=timeout_s)
        assert refused.value.code == "request_timeout"
    with pytest.raises(CallerLeft):
        await handed_on(caller(body(b"0", more_at_end=True)))


async def test_a_compressed_body_is_not_handed_on() -> None:
    with pytest.raises(Refusal) as refused:
        await handed_on(caller(body(b"x")), headers=[(b"content-encoding", b"gzip")])
    assert refused.value.param == "content-encoding"


class Known:
    """A caller whose server has the body already."""

    task: Any = None

    def __init__(self, body: bytes | None) -> None:
        self.body = body

    def take_body(self) -> bytes | None:
        return self.body

    def when_gone(self, tell: Any) -> None:
        """It stays."""


async def test_a_body_the_server_has_is_not_waited_for_and_has_the_same_bound() -> None:
    async def reading(known: Known) -> bytes:
        scope: Any = {"headers": [], "extensions": {CALLER: weakref.ref(known)}}
        return await read_body(scope, caller(body(b"sent")), bytes_max=10, timeout_s=30)

    assert await reading(Known(b"here")) == b"here"
    assert await reading(Known(None)) == b"sent"
    with pytest.raises(Refusal) as caught:
        await reading(Known(b"x" * 11))
    assert caught.value.code == "request_too_large"


def test_a_body_at_hand_is_taken_where_its_head_says_nothing_odd_of_it() -> None:
    assert body_at_hand(Known(b"0123456789"), {b"content-length": b"10"}, 10) == b"0123456789"
    assert body_at_hand(Known(b""), {}, 10) == b""
    assert body_at_hand(None, {}, 10) is None and body_at_hand(Known(None), {}, 10) is None
    assert body_at_hand(Known(b"x"), {b"content-encoding": b"identity"}, 10) is None, "left to who reads it"
    with pytest.raises(Refusal) as caught:
        body_at_hand(Known(b"x" * 11), {}, 10)
    assert caught.value.code == "request_too_large"


async def test_until_gone_passes_over_everything_else() -> None:
    receive = caller([*body(b"late"), dict(GONE), {"type": "never looked at"}])
    await until_gone(receive)
    assert (await receive())["type"] == "never looked at"


async def test_a_reply_is_two_messages_or_one_where_the_server_takes_it_so() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    head = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    await send_reply({}, send, 200, [(b"a", b"b")], b"body")
    assert sent == [head, {"type": "http.response.body", "body": b"body"}]
    sent.clear()
    await send_reply({"extensions": {WHOLE: {}}}, send, 200, [(b"a", b"b")], b"body")
    assert sent == [{**head, WHOLE: b"body"}]


async def test_a_server_with_a_shorter_way_to_write_is_asked_for_it() -> None:
    def write(piece: bytes) -> bool:
        return bool(piece)

    async def send(message: Message) -> None:
        assert message == {"type": WRITE}
        message["write"] = write

    assert await write_of({"extensions": {WRITE: {}}}, send) is write


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}, {"extensions": {"http.response.pathsend": {}}}])
async def test_a_server_without_one_is_not_asked(scope: dict[str, Any]) -> None:
    async def send(message: Message) -> None:
        raise AssertionError(message)

    assert await write_of(scope, send) is None


async def test_a_server_whose_caller_has_left_may_give_none() -> None:
    async def send(_: Message) -> None:
        """Says nothing."""

    assert await write_of({"extensions": {WRITE: {}}}, send) is None
