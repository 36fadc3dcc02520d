"""What goes to the caller of one call: a stream's head and its pieces, a whole reply, or why there is none. Decides
nothing; keeps the call's phase and clock in step with what was sent."""

from __future__ import annotations

import time

from gateway.downstream import Headers, Scope, Send, Write, send_reply, write_of
from gateway.errors import Refusal
from gateway.phase import Phase
from gateway.story import Story

_EVENT_END = b"\n\n"  # what was relayed last may have been the middle of an event


class Answer:
    """``begun``: a head has gone out, and no other can. ``ended``: the last byte of a reply, whichever, was handed to
    the server. ``unheard``: the caller has left, and nothing more goes out."""

    __slots__ = ("_scope", "_send", "_story", "begun", "ended", "unheard")

    def __init__(self, story: Story, scope: Scope, send: Send) -> None:
        self.begun = self.ended = self.unheard = False
        self._story = story
        self._scope = scope
        self._send = send

    async def head(self, status: int, headers: Headers) -> Write | None:
        """Begin a stream; the server's way to write a piece of it at once, if it has one."""
        self.begun, self._story.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        return await write_of(self._scope, self._send)

    async def piece(self, data: bytes) -> None:
        """A piece of the stream, when the caller takes it."""
        if not self.unheard:
            await self._put(data, more=True)
            self._story.phase = Phase.STREAMING

    async def last(self, data: bytes) -> None:
        """The stream's end."""
        if not self.unheard:
            await self._put(data, more=False)
            self._story.phase, self.ended = Phase.ENDING, True

    async def event(self, said: bytes) -> None:
        """The stream's end, with an event of our own."""
        await self.last(_EVENT_END + said)

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A backend's reply in one piece."""
        self.begun, self._story.status = True, status
        clock = self._story.clock
        clock.first = clock.moved = time.monotonic()
        if not self.unheard:
            await self._reply(status, headers, body)

    async def refuse(self, refusal: Refusal, request_id: str, *, in_events: bool) -> None:
        """Why there is no answer, or no more of it. ``in_events``: what has begun is a stream of events; anything else
        has no words, and left unanswered its connection is broken off, so that it does not look whole."""
        story = self._story
        if not self.begun:
            status, headers, body = story.surface.envelope.reply(refusal, request_id)
            self.begun, story.status, story.clock.moved = True, refusal.status, time.monotonic()
            await self._reply(status, headers, body)
        elif in_events:
            await self.event(story.surface.envelope.event(refusal, request_id))

    async def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._story.phase = Phase.SENDING
        await send_reply(self._scope, self._send, status, headers, body)
        self._story.phase, self.ended = Phase.ENDING, True

    async def _put(self, data: bytes, *, more: bool) -> None:
        story, clock = self._story, self._story.clock
        if not clock.first:
            clock.first = clock.moved
        if not more:
            clock.moved = time.monotonic()
        story.phase = Phase.SENDING
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
