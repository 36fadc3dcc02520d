"""A caller keeps every byte, with its instant; leaving ends what it is sent."""

from __future__ import annotations

from random import Random

from gateway.surfaces import SURFACES
from simulation.caller import Call, Line, Plan, body_of
from simulation.loop import VirtualLoop, running

PLAN = Plan(3, 0, 0.0, "small", 2, True, 40)


def test_the_body_is_a_chat_the_gateway_reads() -> None:
    chat = next(surface for surface in SURFACES if surface.route == "chat.completions")
    request = chat.parse(body_of(PLAN), "application/json")
    assert (request.model, request.stream, request.asked_output, request.include_usage) == ("small", True, 40, True)


def test_every_byte_until_the_caller_leaves_is_kept() -> None:
    loop = VirtualLoop(Random(0))
    call = Call(PLAN, "r", 0.0)

    async def served() -> None:
        line = Line(loop, call, "1")
        assert (await line.receive())["type"] == "http.request"
        await line.send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"id")]})
        await line.send({"type": "http.response.body", "body": b'{"content":"abc abc "}', "more_body": True})
        line.hang_up()
        assert (await line.receive())["type"] == "http.disconnect"
        await line.send({"type": "http.response.body", "body": b'{"content":"lost"}', "more_body": False})

    with running(loop):
        loop.run_until_complete(served())
    assert (call.tokens, call.tokens_since(0.0), call.tokens_since(1.0)) == (2, 2, 0)
    assert (call.request_id, call.whole, call.answered) == ("id", False, False)
