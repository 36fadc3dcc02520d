"""Whose reply a call gets: the model's that was asked for, or a fallback's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.forward import Forwarder
from gateway.opening import opened
from gateway.payment import Payment
from gateway.phase import Phase
from gateway.upstream import UpstreamFailure
from tests.gateway.calls import story


class SomeReply:
    """A head with this status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Backends:
    """Backends of these candidates, each of which does what its turn says: a reply, or what it raises."""

    def __init__(self, *turns: SomeReply | BaseException, candidates: int = 1, retries: int = 1) -> None:
        self.limits = SimpleNamespace(retries_max=retries)
        self.turns = list(turns)
        self.story = story()
        self.story.phase = Phase.OPENING
        self.asked: list[Any] = []
        names = [f"candidate {number}" for number in range(candidates)]
        self.payment = SimpleNamespace(
            admission=SimpleNamespace(candidates=names, output_cap=7), answer_by=self._answer_by, answering=names[0]
        )

    def _answer_by(self, candidate: str) -> None:
        self.payment.answering = candidate

    def patience(self, candidate: Any) -> Any:
        return f"patience with {candidate}"

    async def open(
        self, surface: Any, request: Any, candidate: Any, patience: Any, *, sent: Callable[..., None], **_: Any
    ) -> Any:
        assert patience == f"patience with {candidate}"
        self.asked.append(candidate)
        sent(1.0, False)
        sent(2.0, True)
        turn = self.turns.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        return turn

    async def opened(self, only_late: Callable[[], bool] = lambda: False) -> Any:
        return await opened(self.story, "id", cast(Payment, self.payment), cast(Forwarder, self), only_late)


async def test_the_first_answer_is_taken_and_the_clock_knows() -> None:
    backends = Backends(reply := SomeReply(200))
    assert await backends.opened() is reply
    clock = backends.story.clock
    assert clock.sent == 1.0 and clock.head == clock.moved == clock.whole > 2.0
    assert cast(Any, backends.story.patience) == "patience with candidate 0"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_backend_is_left_for_the_next_candidate(status: int) -> None:
    backends = Backends(busy := SomeReply(status), well := SomeReply(200), candidates=2)
    assert await backends.opened() is well
    assert busy.closed and not well.closed and backends.payment.answering == "candidate 1"


async def test_the_last_candidates_word_stands_and_so_does_a_refusal() -> None:
    assert (await Backends(SomeReply(503)).opened()).status == 503
    assert (await Backends(SomeReply(400), candidates=2).opened()).status == 400
    assert (await Backends(SomeReply(503), candidates=2, retries=0).opened()).status == 503


async def test_without_another_candidate_only_what_was_never_sent_is_tried_again() -> None:
    backends = Backends(UpstreamFailure("connect", "refused"), SomeReply(200))
    assert (await backends.opened()).status == 200
    assert backends.asked == ["candidate 0", "candidate 0"]
    with pytest.raises(UpstreamFailure):
        await Backends(UpstreamFailure("reset"), SomeReply(200)).opened()


async def test_any_failure_is_tried_again_with_another_candidate() -> None:
    backends = Backends(UpstreamFailure("reset"), SomeReply(200), candidates=2)
    assert (await backends.opened()).status == 200
    assert backends.asked == ["candidate 0", "candidate 1"]


async def test_who_was_stopped_for_the_first_byte_alone_goes_on_with_the_next() -> None:
    late = asyncio.CancelledError()
    assert (await Backends(late, SomeReply(200), candidates=2).opened(lambda: True)).status == 200
    with pytest.raises(asyncio.CancelledError):
        await Backends(late, SomeReply(200), candidates=2).opened(lambda: False)
    with pytest.raises(asyncio.CancelledError):
        await Backends(late, SomeReply(200)).opened(lambda: True)
