"""The opening of one call's reply: of the model asked for, or of a fallback while nothing has gone to the caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.forward import Forwarder
from gateway.order import Candidate
from gateway.payment import Payment
from gateway.phase import Phase
from gateway.story import Story
from gateway.upstream import Reply, UpstreamFailure


async def opened(
    story: Story, request_id: str, payment: Payment, forwarder: Forwarder, only_late: Callable[[], bool]
) -> Reply:
    """The head of the reply, and in ``payment`` whose it is. ``only_late`` is asked when somebody stopped the call:
    whether that was for the first byte alone, and the next candidate may be tried. Raises UpstreamFailure."""
    candidates, retries = list(payment.admission.candidates), forwarder.limits.retries_max
    while True:
        if payment.answering is not candidates[0]:
            payment.answer_by(candidates[0])
        others = len(candidates) > 1 and retries > 0
        try:
            reply = await _asked(story, request_id, payment, candidates[0], forwarder)
            # A backend that answers has all it wants of the request.
            story.clock.head = story.clock.moved = story.clock.whole = time.monotonic()
            if not others or (reply.status < 500 and reply.status != 429):
                return reply
            reply.close()
        except UpstreamFailure as failure:
            if not others and not (failure.safe_to_retry and retries > 0):
                raise
        except asyncio.CancelledError:
            if not others or not only_late():
                raise
        retries -= 1
        if others:
            candidates.pop(0)


def _asked(
    story: Story, request_id: str, payment: Payment, candidate: Candidate, forwarder: Forwarder
) -> Awaitable[Reply]:
    """The head of this candidate's reply, to be awaited."""
    story.clock.whole = 0.0
    story.patience = patience = forwarder.patience(candidate)
    return forwarder.open(
        story.surface,
        story.request,
        candidate,
        patience,
        request_id=request_id,
        headers=story.headers,
        output_cap=payment.admission.output_cap,
        sent=partial(_sent, story),
    )


def _sent(story: Story, instant: float, whole: bool) -> None:
    """Some of the request has left, or the last of it."""
    clock = story.clock
    clock.sent = clock.sent or instant
    if story.phase is Phase.OPENING:
        clock.moved = instant
    if whole:
        clock.whole = instant
