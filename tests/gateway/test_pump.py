"""What stories do not show of a call: who may stop it when, and the chunk that ends an answer that was cut."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.phase import Phase, Stop
from gateway.pump import House, Pump
from tests.backend import Backend, Stall
from tests.backend import stream as script
from tests.gateway.calls import story
from tests.house import Farebox
from tests.streams import DONE, delta, stream, until, usage


async def _nowhere(message: Any) -> None:
    raise AssertionError("nothing should be sent")


@pytest.fixture
async def pump() -> Any:
    """A call whose task waits for ever."""
    pump = Pump(story(), {}, _nowhere, cast(House, None))
    pump._task = asyncio.create_task(asyncio.sleep(60))
    yield pump
    pump._task.cancel()


class Gate:
    """An admitter that takes down whom it is told of."""

    def __init__(self) -> None:
        self.left: list[Any] = []

    def leave(self, request_id: Any) -> None:
        self.left.append(request_id)


async def test_a_call_being_admitted_is_not_interrupted_but_knows_and_no_longer_waits(pump: Pump) -> None:
    gate = Gate()
    pump._house = cast(House, SimpleNamespace(admitter=gate))
    pump.stop(Stop.CALLER_LEFT)
    assert gate.left == [pump.story.request_id]
    assert pump._task is not None and not pump._task.cancelling()
    assert pump._why is Stop.CALLER_LEFT


@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.STREAMING, Phase.SENDING])
async def test_a_call_under_way_is_interrupted(pump: Pump, phase: Phase) -> None:
    pump.story.phase = phase
    pump.stop(Stop.IDLE)
    assert pump._task is not None and pump._task.cancelling()


async def test_a_call_that_settles_is_not_interrupted(pump: Pump) -> None:
    pump.story.phase, pump._closing = Phase.STREAMING, True
    pump.stop(Stop.DRAINED)
    assert pump._task is not None and not pump._task.cancelling()


async def test_a_call_whose_last_byte_has_gone_cannot_be_stopped(pump: Pump) -> None:
    pump.story.phase = Phase.ENDING
    pump.stop(Stop.CALLER_LEFT)
    assert pump._task is not None and not pump._task.cancelling()
    assert pump._why is None


@pytest.mark.parametrize("later, stands", [(Stop.TOTAL, Stop.FIRST_BYTE), (Stop.CALLER_LEFT, Stop.CALLER_LEFT)])
async def test_the_first_reason_stands_unless_the_caller_left(pump: Pump, later: Stop, stands: Stop) -> None:
    pump.story.phase = Phase.OPENING
    pump.stop(Stop.FIRST_BYTE)
    pump.stop(later)
    assert pump._why is stands


async def test_a_call_nobody_admitted_does_not_beat(pump: Pump) -> None:
    assert pump.beat() is None
    assert (pump.model_id, pump.upstream_name, pump.done) == ("", "", False)


async def test_waiting_for_the_backend_is_not_counted_as_ours(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("one")], end=False), Stall()]
    async with stream(farebox, await farebox.caller()) as reply:
        await reply.content.readany()
        (pump,) = farebox.run.gateway._pulse.pumps
        await asyncio.sleep(0.4)
    await until(lambda: pump.done)
    clock = pump.story.clock
    assert clock.moved - clock.sent > 0.35


async def test_a_call_that_ended_well_is_gone_from_the_running_ones(farebox: Farebox, backend: Backend) -> None:
    backend.answer = script([delta("one", "stop"), usage(5, 1), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        (pump,) = farebox.run.gateway._pulse.pumps
        await reply.read()
    await until(lambda: farebox.run.gateway.running == 0)
    assert pump.done and pump.answer.ended and pump.story.amount > 0
    assert pump.story.outcome == "completed" and pump.story.code == ""
