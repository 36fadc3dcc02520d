"""What its caller gets of a call, and what the call knows of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.answer import Answer
from gateway.errors import internal
from gateway.phase import Phase
from tests.gateway.calls import story


class Server:
    """What was sent, each with the phase in which it was."""

    def __init__(self, *, writes: bool = False) -> None:
        self.story = story()
        self.sent: list[tuple[Phase, Any]] = []
        self.written: list[bytes] = []
        self.answer = Answer(self.story, {"extensions": {"farebox.write": {}} if writes else {}}, self.send)

    async def send(self, message: Any) -> None:
        if message["type"] == "farebox.write":
            message["write"] = self.written.append
        else:
            self.sent.append((self.story.phase, message))

    def phase(self) -> Phase:
        return self.story.phase

    @property
    def bodies(self) -> list[tuple[Phase, bytes, bool]]:
        rest = [(phase, message) for phase, message in self.sent if message["type"] == "http.response.body"]
        return [(phase, message["body"], message.get("more_body", False)) for phase, message in rest]


async def test_a_stream_is_a_head_its_pieces_and_an_end() -> None:
    server = Server()
    assert await server.answer.head(200, [(b"a", b"1")]) is None
    assert server.answer.begun and server.story.status == 200
    server.story.clock.moved = came = 5.0
    await server.answer.piece(b"one")
    assert server.phase() is Phase.STREAMING and not server.answer.ended
    assert server.story.clock.first == server.story.clock.moved == came
    await server.answer.last(b"two")
    assert server.bodies == [(Phase.SENDING, b"one", True), (Phase.SENDING, b"two", False)]
    assert server.phase() is Phase.ENDING and server.answer.ended
    assert server.story.clock.first == came < server.story.clock.moved


async def test_the_servers_own_way_to_write_is_asked_for_behind_the_head() -> None:
    server = Server(writes=True)
    write = await server.answer.head(200, [])
    assert write is not None
    write(b"piece")
    assert server.written == [b"piece"] and len(server.sent) == 1


async def test_a_reply_in_one_piece_is_whole_at_once() -> None:
    server = Server()
    await server.answer.whole(404, [], b"no such thing")
    assert server.story.status == 404 and server.answer.begun and server.answer.ended
    assert server.bodies == [(Phase.SENDING, b"no such thing", False)]
    assert server.story.clock.first == server.story.clock.moved > 0


async def test_who_has_left_gets_nothing_more() -> None:
    server = Server()
    await server.answer.head(200, [])
    server.answer.unheard = True
    await server.answer.piece(b"one")
    await server.answer.event(b"data: two\n\n")
    await server.answer.whole(200, [], b"three")
    assert server.bodies == [] and not server.answer.ended and server.phase() is not Phase.ENDING


async def test_before_the_first_byte_a_refusal_is_the_reply() -> None:
    server = Server()
    await server.answer.refuse(internal(), "id", in_events=True)
    [(_, head), (_, body)] = server.sent
    assert head["status"] == server.story.status == 500 and b"internal" in body["body"]
    assert server.answer.begun and server.answer.ended


@pytest.mark.parametrize("in_events", [True, False])
async def test_after_it_a_refusal_is_an_event_or_nothing(in_events: bool) -> None:
    server = Server()
    await server.answer.head(200, [])
    await server.answer.refuse(internal(), "id", in_events=in_events)
    assert server.story.status == 200 and server.answer.ended is in_events
    assert [body.startswith(b"\n\ndata: ") for _, body, _ in server.bodies] == [True] * in_events
