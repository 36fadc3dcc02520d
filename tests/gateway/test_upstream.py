"""The door to the backends, over real sockets and against every way a backend misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway import http
from gateway.headers import to_upstream
from gateway.sockets import sockets
from gateway.stored import Source
from gateway.target import Target
from gateway.upstream import Reply, TooLarge, UpstreamFailure, Upstreams
from gateway.wire import BODY_AS_ONE_BYTES_MAX
from tests import backend as play
from tests.backend import Backend
from tests.streams import standstill


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend().running() as running:
        yield running


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    door = Upstreams()
    yield door
    await door.aclose()


async def open_chat(
    upstreams: Upstreams, backend: Backend, body: bytes | Source = b'{"model":"m"}', connect_timeout_s: float = 30.0
) -> Reply:
    target = Target.of("test", backend.url, "sk-backend", allow_private=True)
    headers = to_upstream([(b"content-type", b"application/json")], target, "request-1")
    return await upstreams.open(
        target, path="/chat/completions", body=body, headers=headers, connect_timeout_s=connect_timeout_s
    )


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops every further connection request."""
    with socket.socket() as deaf, contextlib.ExitStack() as waiting:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


async def failure_of(awaiting: object) -> UpstreamFailure:
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamFailure) as caught:
            await awaiting  # type: ignore[misc]
    return caught.value


async def read_to_end(reply: Reply) -> bytes:
    pieces = []
    async with asyncio.timeout(30):
        while piece := await reply.read():
            pieces.append(piece)
    return b"".join(pieces)


async def test_the_request_on_the_wire_holds_our_headers_and_nothing_a_library_added(
    upstreams: Upstreams, backend: Backend
) -> None:
    reply = await open_chat(upstreams, backend)
    await reply.read_all(10_000)
    seen = backend.requests[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/chat/completions", b'{"model":"m"}')
    assert {name.lower(): value for name, value in seen.headers} == {
        "host": f"127.0.0.1:{backend.port}",
        "content-type": "application/json",
        "content-length": "13",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-backend",
        "x-request-id": "request-1",
    }


async def test_a_get_carries_no_body(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.json_answer({"data": []})
    target = Target.of("test", backend.url, allow_private=True)
    reply = await upstreams.open(target, path="/models", body=b"", headers=[], connect_timeout_s=30, method="GET")
    assert await reply.read_all(100) == b'{"data": []}'
    assert (backend.requests[0].method, backend.requests[0].header("content-length")) == ("GET", None)


async def test_the_head_is_returned_before_the_body_comes(upstreams: Upstreams, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = play.stream([play.Gate(gate), b"data: 1\n\n"])
    reply = await open_chat(upstreams, backend)
    assert (reply.status, reply.is_event_stream) == (200, True)
    assert reply.content_type == "text/event-stream; charset=utf-8"
    gate.set()
    assert await read_to_end(reply) == b"data: 1\n\n"


async def test_each_piece_is_handed_on_when_it_arrives(upstreams: Upstreams, backend: Backend) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    backend.answer = play.stream([b"one", play.Gate(gates[0]), b"two", play.Gate(gates[1]), b"three"])
    reply = await open_chat(upstreams, backend)
    assert await reply.read() == b"one"
    gates[0].set()
    assert await reply.read() == b"two"
    gates[1].set()
    assert await reply.read() == b"three"
    assert await reply.read() == b""
    assert await reply.read() == b""


async def test_a_finished_reply_leaves_its_connection_for_the_next_call(upstreams: Upstreams, backend: Backend) -> None:
    for _ in range(3):
        await (await open_chat(upstreams, backend)).read_all(10_000)
    assert backend.connections == 1


async def test_error_statuses_and_redirects_are_replies_like_any_other(upstreams: Upstreams, backend: Backend) -> None:
    backend.then(play.error(429, "slow down"), play.json_answer({}, 307, (("location", "/elsewhere"),)))
    first = await open_chat(upstreams, backend)
    assert (first.status, b"slow down" in await first.read_all(1000)) == (429, True)
    second = await open_chat(upstreams, backend)
    assert (second.status, await second.read_all(1000)) == (307, b"{}")
    assert len(backend.requests) == 2


async def test_repeated_and_long_headers_arrive_as_they_were_sent(upstreams: Upstreams, backend: Backend) -> None:
    long = "p" * 30_000
    backend.answer = play.plain(b"{}", headers=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Policy", long)))
    reply = await open_chat(upstreams, backend)
    assert [value for name, value in reply.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]
    assert (b"x-policy", long.encode()) in reply.headers
    reply.close()


async def test_a_cookie_set_for_one_call_is_not_sent_with_the_next(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.plain(b"{}", headers=(("set-cookie", "session=of-the-first; Path=/"),))
    for _ in range(2):
        await (await open_chat(upstreams, backend)).read_all(100)
    assert backend.requests[1].header("cookie") is None


# The caller leaves.


async def test_cancelling_while_waiting_for_the_head_closes_the_socket_at_once(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.answer = [play.Stall()]
    opening = asyncio.ensure_future(open_chat(upstreams, backend))
    seen = await backend.arrived()
    opening.cancel()
    await asyncio.wait_for(seen.left.wait(), 30)
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_cancelling_while_waiting_for_a_piece_closes_the_socket_at_once(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.answer = play.stream([b"one", play.Stall()])
    reply = await open_chat(upstreams, backend)
    await reply.read()
    reading = asyncio.ensure_future(reply.read())
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_close_ends_the_socket_at_once_and_fails_a_pending_read(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.stream([b"one", play.Stall()])
    reply = await open_chat(upstreams, backend)
    await reply.read()
    reading = asyncio.ensure_future(reply.read())
    await asyncio.sleep(0.01)
    reply.close()
    reply.close()
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    assert (await failure_of(reading)).kind == "reset"


async def test_cancelling_in_the_middle_of_an_upload_does_not_wait_for_the_backend_to_read(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.reads_body = False
    gate = asyncio.Event()
    backend.answer = [play.Gate(gate), b"x", play.Pause(0.05), b"x", play.Stall()]
    opening = asyncio.ensure_future(open_chat(upstreams, backend, b"x" * 20_000_000))
    seen = await backend.arrived()
    await asyncio.sleep(0.05)
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    # The backend never reads, so it can only learn by writing: the first byte is answered by a reset.
    gate.set()
    await asyncio.wait_for(seen.left.wait(), 30)


# A body that is read while it is sent.

PIECE = bytes(range(256)) * 256


class Reel:
    """A body that is only ever made of the piece that is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.reads: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.size

    async def read(self, start: int, end: int) -> bytes:
        self.reads.append((start, end))
        await asyncio.sleep(0)
        return (PIECE * ((end - start) // len(PIECE) + 2))[start % len(PIECE) :][: end - start]

    @property
    def read_to(self) -> int:
        return self.reads[-1][1] if self.reads else 0


@pytest.mark.parametrize("size", [1, 65_536, 131_072, 131_073, 3_000_000])
async def test_a_body_is_read_piece_by_piece_and_arrives_whole(
    size: int, upstreams: Upstreams, backend: Backend
) -> None:
    reel, backend.answer = Reel(size), play.json_answer({})
    await (await open_chat(upstreams, backend, reel)).read_all(10_000)
    (seen,) = backend.requests
    assert seen.header("content-length") == str(size) and seen.header("transfer-encoding") is None
    whole = seen.body == (PIECE * (size // len(PIECE) + 1))[:size]
    assert whole, "what arrived is not what was read"
    assert max(end - start for start, end in reel.reads) <= 131_072
    assert [start for start, _ in reel.reads[1:]] == [end for _, end in reel.reads[:-1]]
    await (await open_chat(upstreams, backend)).read_all(10_000)
    assert backend.connections == 1, "its connection serves the next call"


async def test_no_more_of_a_body_is_read_than_the_backend_takes(upstreams: Upstreams, backend: Backend) -> None:
    backend.reads_body, backend.answer = False, [play.Stall()]
    reel = Reel(1 << 30)
    opening = asyncio.ensure_future(open_chat(upstreams, backend, reel))
    await backend.arrived()
    read = await standstill(lambda: reel.read_to)
    assert read < 1 << 26
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    await asyncio.sleep(0.05)
    assert reel.read_to == read


async def test_a_backend_that_answers_in_the_middle_of_a_body_is_heard_and_sent_no_more(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.reads_body, backend.answer = False, play.error(413, "too large")
    reel = Reel(1 << 30)
    reply = await open_chat(upstreams, backend, reel)
    assert (reply.status, b"too large" in await reply.read_all(10_000)) == (413, True)
    read = reel.read_to
    await asyncio.sleep(0.05)
    assert reel.read_to == read < 1 << 26
    backend.reads_body, backend.answer = True, play.chat()
    await (await open_chat(upstreams, backend)).read_all(10_000)
    assert backend.connections == 2, "the connection with half a request on it is not used again"


async def test_closing_the_reply_ends_the_reading_of_a_body(upstreams: Upstreams, backend: Backend) -> None:
    backend.reads_body, backend.answer = False, [*play.stream([b"data: 1\n\n"], end=False), play.Stall()]
    reel = Reel(1 << 30)
    reply = await open_chat(upstreams, backend, reel)
    assert await reply.read() == b"data: 1\n\n"
    reply.close()
    await asyncio.sleep(0)
    read = reel.read_to
    await asyncio.sleep(0.05)
    assert reel.read_to == read


async def test_a_body_that_cannot_be_read_on_fails_the_call_and_never_looks_whole(
    upstreams: Upstreams, backend: Backend
) -> None:
    class Torn(Reel):
        async def read(self, start: int, end: int) -> bytes:
            if start > 200_000:
                raise OSError(5, "the disk is gone")
            return await super().read(start, end)

    failure = await failure_of(open_chat(upstreams, backend, Torn(1_000_000)))
    assert (failure.kind, failure.safe_to_retry) == ("reset", False)
    assert not backend.requests


# The backend cannot be reached: nothing was sent, so another try is safe.


async def test_a_refused_connection_is_safe_to_retry(upstreams: Upstreams) -> None:
    async with Backend().running() as gone:
        pass
    failure = await failure_of(open_chat(upstreams, gone))
    assert (failure.kind, failure.safe_to_retry) == ("connect", True)


async def test_an_unknown_name_is_safe_to_retry(upstreams: Upstreams) -> None:
    target = Target.of("test", "http://no-such-host.invalid/v1")
    failure = await failure_of(upstreams.open(target, path="/x", body=b"", headers=[], connect_timeout_s=4))
    assert failure.kind in ("connect", "connect_timeout")
    assert failure.safe_to_retry


async def test_an_address_inside_is_not_asked_unless_the_operator_says_so_and_is_safe_to_retry(
    upstreams: Upstreams, backend: Backend
) -> None:
    target = Target.of("test", backend.url)
    failure = await failure_of(
        upstreams.open(target, path="/chat/completions", body=b"{}", headers=[], connect_timeout_s=30)
    )
    assert (failure.kind, failure.safe_to_retry) == ("connect", True)
    assert "127.0.0.1" in failure.detail and "allow_private" in failure.detail and backend.connections == 0


async def test_a_backend_that_speaks_no_tls_is_safe_to_retry(upstreams: Upstreams, backend: Backend) -> None:
    target = Target.of("test", f"https://127.0.0.1:{backend.port}/v1", allow_private=True)
    backend_garbage = asyncio.ensure_future(
        upstreams.open(target, path="/x", body=b"", headers=[], connect_timeout_s=0.3)
    )
    failure = await failure_of(backend_garbage)
    assert failure.kind in ("connect", "connect_timeout")
    assert failure.safe_to_retry
    assert backend.requests == []


async def test_a_connection_that_takes_too_long_is_safe_to_retry(upstreams: Upstreams) -> None:
    with deaf_port() as port:
        target = Target.of("test", f"http://127.0.0.1:{port}", allow_private=True)
        failure = await failure_of(upstreams.open(target, path="/x", body=b"", headers=[], connect_timeout_s=0.2))
    assert (failure.kind, failure.safe_to_retry) == ("connect_timeout", True)


async def test_a_call_can_be_cancelled_while_it_connects(upstreams: Upstreams) -> None:
    with deaf_port() as port:
        target = Target.of("test", f"http://127.0.0.1:{port}", allow_private=True)
        opening = asyncio.ensure_future(upstreams.open(target, path="/x", body=b"", headers=[], connect_timeout_s=30))
        await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(opening), 30)


# The backend was reached and failed: it may have executed the request.


@pytest.mark.parametrize("end", [play.Close(), play.Cut()], ids=["closed", "reset"])
async def test_a_connection_that_ends_before_the_head_is_not_safe_to_retry(
    upstreams: Upstreams, backend: Backend, end: play.Step
) -> None:
    backend.answer = [end]
    failure = await failure_of(open_chat(upstreams, backend))
    assert (failure.kind, failure.safe_to_retry) == ("reset", False)
    assert len(backend.requests) == 1


@pytest.mark.parametrize("end", [play.Close(), play.Cut()], ids=["closed", "reset"])
async def test_a_connection_that_ends_inside_the_head_is_a_reset(
    upstreams: Upstreams, backend: Backend, end: play.Step
) -> None:
    backend.answer = [b"HTTP/1.1 200 OK\r\ncontent-ty", end]
    assert (await failure_of(open_chat(upstreams, backend))).kind == "reset"


async def test_a_kept_connection_that_dies_under_the_next_call_is_not_tried_again(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.then(play.plain(b"{}"), [play.Cut()])
    await (await open_chat(upstreams, backend)).read_all(100)
    assert (await failure_of(open_chat(upstreams, backend))).kind == "reset"
    assert len(backend.requests) == 2


SHORT = {
    "chunked": [play.head(200, play.EVENT_STREAM), play.chunk(b"data: 1\n\n")],
    "inside a chunk": [play.head(200, play.EVENT_STREAM), b"ff\r\ndata: 1\n\n"],
    "content-length": [play.head(200, (("content-length", "100"),)), b"data: 1\n\n"],
}


@pytest.mark.parametrize("end", [play.Close(), play.Cut()], ids=["closed", "reset"])
@pytest.mark.parametrize("start", SHORT.values(), ids=SHORT.keys())
async def test_a_body_that_ends_early_is_a_failure_and_not_an_end(
    upstreams: Upstreams, backend: Backend, start: list[play.Step], end: play.Step
) -> None:
    taken = asyncio.Event()
    backend.answer = [*start, play.Gate(taken), end]
    reply = await open_chat(upstreams, backend)
    assert await reply.read() == b"data: 1\n\n"
    taken.set()
    failure = await failure_of(reply.read())
    assert (failure.kind, failure.safe_to_retry) == ("reset", False)


async def test_a_body_without_framing_ends_with_its_connection(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = [play.head(200, (("content-type", "text/event-stream"),)), b"data: 1\n\n", play.Close()]
    assert await read_to_end(await open_chat(upstreams, backend)) == b"data: 1\n\n"


async def test_a_body_without_framing_that_is_reset_is_a_failure(upstreams: Upstreams, backend: Backend) -> None:
    taken = asyncio.Event()
    backend.answer = [play.head(200), b"data: 1\n\n", play.Gate(taken), play.Cut()]
    reply = await open_chat(upstreams, backend)
    assert await reply.read() == b"data: 1\n\n"
    taken.set()
    assert (await failure_of(reply.read())).kind == "reset"


async def test_what_came_before_the_break_is_given_out_first(upstreams: Upstreams, backend: Backend) -> None:
    whole = play.head(200, play.EVENT_STREAM) + play.chunk(b"usage") + play.chunk(b"done")
    backend.answer = [whole, play.Close()]
    reply = await open_chat(upstreams, backend)
    await asyncio.sleep(0.05)
    assert await reply.read() == b"usagedone"
    assert (await failure_of(reply.read())).kind == "reset"


async def test_nothing_is_given_out_after_close(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = [play.head(200, play.EVENT_STREAM) + play.chunk(b"one"), play.Stall()]
    reply = await open_chat(upstreams, backend)
    await asyncio.sleep(0.05)
    reply.close()
    assert (await failure_of(reply.read())).kind == "reset"


GARBAGE = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "header without colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "nul in a value": b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    "field too long": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 2_000 + b"\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("head", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_head_that_is_not_http_is_a_protocol_failure(
    upstreams: Upstreams, backend: Backend, head: bytes
) -> None:
    backend.answer = [head, play.Stall()]
    failure = await failure_of(open_chat(upstreams, backend))
    assert (failure.kind, failure.safe_to_retry) == ("protocol", False)
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)


async def test_an_endless_head_is_cut_off(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = [b"HTTP/1.1 200 OK\r\nx: ", play.Flood(b"a" * 10_000)]
    assert (await failure_of(open_chat(upstreams, backend))).kind == "protocol"
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    assert backend.requests[0].sent < 10_000_000


async def test_broken_chunk_framing_is_a_protocol_failure(upstreams: Upstreams, backend: Backend) -> None:
    taken = asyncio.Event()
    backend.answer = [play.head(200, play.EVENT_STREAM), play.chunk(b"one"), play.Gate(taken), b"zz\r\n", play.Stall()]
    reply = await open_chat(upstreams, backend)
    assert await reply.read() == b"one"
    taken.set()
    assert (await failure_of(reply.read())).kind == "protocol"


@pytest.mark.parametrize(
    "header", [("content-encoding", "gzip"), ("Content-Encoding", "br"), ("transfer-encoding", "gzip, chunked")]
)
async def test_a_reply_in_a_foreign_encoding_is_refused(
    upstreams: Upstreams, backend: Backend, header: tuple[str, str]
) -> None:
    backend.answer = [play.head(200, (header,)), play.Stall()]
    failure = await failure_of(open_chat(upstreams, backend))
    assert failure.kind == "encoding"
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)


async def test_identity_said_aloud_is_no_encoding(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.plain(b"{}", headers=(("content-encoding", "identity"),))
    assert await (await open_chat(upstreams, backend)).read_all(10) == b"{}"


# Bounds.


async def test_a_backend_that_floods_is_held_back_until_the_caller_takes_more(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.answer = [play.head(200, play.EVENT_STREAM), play.Flood(play.chunk(b"x" * 16_384))]
    reply = await open_chat(upstreams, backend)
    await reply.read()
    held = await standstill(lambda: backend.requests[0].sent)
    for _ in range(300):
        await reply.read()
    assert backend.requests[0].sent > held
    reply.close()


async def test_one_piece_is_never_larger_than_the_buffer(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = [play.head(200, play.EVENT_STREAM), play.Flood(play.chunk(b"x" * 65_536), 8_000_000), play.Cut()]
    reply = await open_chat(upstreams, backend)
    largest = 0
    for _ in range(8):
        await asyncio.sleep(0.02)
        largest = max(largest, len(await reply.read()))
    assert largest < 1 << 20
    reply.close()


async def test_read_all_stops_at_its_bound_and_closes(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = [play.head(200, play.EVENT_STREAM), play.Flood(play.chunk(b"x" * 1000))]
    reply = await open_chat(upstreams, backend)
    with pytest.raises(TooLarge) as caught:
        await reply.read_all(100_000)
    assert (caught.value.kind, caught.value.safe_to_retry) == ("too_large", False)
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)


async def test_a_body_that_came_with_its_head_has_the_same_bound(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.plain(b"0123456789")
    reply = await open_chat(upstreams, backend)
    await asyncio.sleep(0.1)  # all of it is here
    with pytest.raises(TooLarge):
        await reply.read_all(9)


async def test_read_all_takes_a_body_of_exactly_its_bound(upstreams: Upstreams, backend: Backend) -> None:
    backend.answer = play.plain(b"x" * 1000)
    assert len(await (await open_chat(upstreams, backend)).read_all(1000)) == 1000


async def test_a_body_of_many_megabytes_arrives_whole(upstreams: Upstreams, backend: Backend) -> None:
    body = b'{"model":"m","pad":"' + bytes(range(97, 123)) * 400_000 + b'"}'
    reply = await open_chat(upstreams, backend, body)
    await reply.read_all(10_000)
    assert backend.requests[0].body == body


async def test_an_answer_given_before_the_upload_ended_is_read_and_its_connection_is_not_used_again(
    upstreams: Upstreams, backend: Backend
) -> None:
    backend.reads_body = False
    backend.answer = play.error(413, "too long")
    reply = await open_chat(upstreams, backend, b"x" * 20_000_000)
    assert (reply.status, b"too long" in await reply.read_all(1000)) == (413, True)
    backend.reads_body = True
    backend.answer = play.plain(b"{}")
    assert await (await open_chat(upstreams, backend)).read_all(100) == b"{}"
    assert backend.connections == 2


async def test_an_answer_given_before_a_request_in_one_piece_has_left_leaves_its_connection_to_nobody(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next call would send behind the rest of it is never read."""

    def narrow(*, private: bool) -> Callable[[Any], socket.socket]:
        def made(address: Any) -> socket.socket:
            made = sockets(private=private)(address)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return made

        return made

    monkeypatch.setattr(http, "sockets", narrow)
    upstreams = Upstreams()
    backend.reads_body, backend.answer = False, play.error(429, "busy")
    reply = await open_chat(upstreams, backend, b"x" * BODY_AS_ONE_BYTES_MAX)
    assert (reply.status, b"busy" in await reply.read_all(1000)) == (429, True)
    backend.reads_body, backend.answer = True, play.plain(b"{}")
    async with asyncio.timeout(5):
        assert await (await open_chat(upstreams, backend)).read_all(100) == b"{}"
    assert backend.connections == 2
    await upstreams.aclose()


async def test_three_hundred_streams_run_at_once(upstreams: Upstreams, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = lambda seen: play.stream([b"one", play.Gate(gate), b"two"])
    replies = await asyncio.gather(*(open_chat(upstreams, backend) for _ in range(300)))
    assert backend.open_connections == 300
    gate.set()
    assert set(await asyncio.gather(*map(read_to_end, replies))) == {b"onetwo"}


async def test_a_bound_on_connections_makes_a_further_call_wait_and_give_up_safely(backend: Backend) -> None:
    upstreams = Upstreams(connections_max=1)
    backend.answer = play.stream([b"one", play.Stall()])
    first = await open_chat(upstreams, backend)
    failure = await failure_of(open_chat(upstreams, backend, connect_timeout_s=0.1))
    assert (failure.kind, failure.safe_to_retry) == ("connect_timeout", True)
    first.close()
    await upstreams.aclose()


async def test_closing_the_door_closes_streams_in_use(backend: Backend) -> None:
    upstreams = Upstreams()
    backend.answer = play.stream([b"one", play.Stall()])
    reply = await open_chat(upstreams, backend)
    await reply.read()
    await upstreams.aclose()
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    assert (await failure_of(reply.read())).kind == "reset"


@pytest.mark.parametrize("kind", ["first_byte_timeout", "idle_timeout", "total_timeout"])
def test_a_failure_the_clock_found_is_not_safe_to_retry(kind: str) -> None:
    assert not UpstreamFailure(kind).safe_to_retry  # type: ignore[arg-type]
