"""The clockwork: which call is overdue for what, who beats when, and that one who is away stops nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from gateway.phase import Patience, Phase, Stop
from gateway.pulse import Pulse
from gateway.pump import Pump
from gateway.story import Clock
from ledger.store import Bank, BankUnavailable, Beat, BeatReply
from ledger.usage import Usage
from policies.buckets import Buckets, BucketsUnavailable
from tests.streams import until


class SomeCall:
    """A call as the clockwork sees it."""

    def __init__(self, phase: Phase = Phase.STREAMING, **clock: float) -> None:
        self.now = now = time.monotonic()
        instants = {name: now - ago for name, ago in clock.items()}
        self.story = SimpleNamespace(
            clock=Clock(**{"begun": now, "sent": now, "moved": now, **instants}),
            patience=Patience(connect=1, first_byte=10, idle=20, total=30),
            phase=phase,
        )
        self.deaf_since = 0.0
        self.admission = SimpleNamespace(ticket="ticket")
        self.stopped: list[Stop] = []
        self.heard: list[BeatReply] = []
        self.id = uuid4()

    def stop(self, why: Stop) -> None:
        self.stopped.append(why)

    def beat(self) -> Beat:
        return Beat(self.id, UUID(int=1), 5, Usage(output=1))

    def beaten(self, reply: BeatReply) -> None:
        self.heard.append(reply)


class SomeBank:
    """Hears beats, when it is there."""

    def __init__(self) -> None:
        self.heard: list[UUID] = []
        self.away = False

    async def beat(self, beats: Sequence[Beat]) -> list[BeatReply]:
        if self.away:
            raise BankUnavailable("away")
        self.heard += [beat.request_id for beat in beats]
        return [BeatReply(True, 7, 0) for _ in beats]


class SomeBuckets:
    """Renews slots, but for the first time."""

    def __init__(self) -> None:
        self.asked = 0
        self.renewed: list[Any] = []

    async def renew(self, tickets: list[Any]) -> None:
        self.asked += 1
        if self.asked == 1:
            raise BucketsUnavailable("away")
        self.renewed += tickets


def _pulse(bank: SomeBank, buckets: SomeBuckets, beat_s: float = 0.05) -> Pulse:
    return Pulse(cast(Bank, bank), cast(Buckets, buckets), beat_s=beat_s, send_timeout_s=5, drain_stream_s=3)


def _join(pulse: Pulse, *calls: SomeCall) -> None:
    pulse.pumps.update(cast(Pump, call) for call in calls)


@pytest.fixture
async def bank() -> SomeBank:
    return SomeBank()


@pytest.fixture
async def pulse(bank: SomeBank) -> AsyncIterator[Pulse]:
    pulse = _pulse(bank, SomeBuckets())
    pulse.start()
    yield pulse
    await pulse.stop()


OVERDUE: dict[str, tuple[Phase, dict[str, float], Stop | None]] = {
    "waiting for the first byte": (Phase.OPENING, {"sent": 11, "moved": 11}, Stop.FIRST_BYTE),
    "still within its first byte": (Phase.OPENING, {"sent": 9, "moved": 9}, None),
    "its upload is still being taken": (Phase.OPENING, {"sent": 29, "moved": 9}, None),
    "its upload is not taken any more": (Phase.OPENING, {"sent": 29, "moved": 11}, Stop.FIRST_BYTE),
    "admitting takes as long as it takes": (Phase.ADMITTING, {"begun": 100, "sent": 100}, None),
    "silent": (Phase.STREAMING, {"moved": 21}, Stop.IDLE),
    "not silent yet": (Phase.STREAMING, {"moved": 19}, None),
    "sending to someone who does not read": (Phase.SENDING, {"moved": 6}, Stop.SLOW_CALLER),
    "streaming for ever": (Phase.STREAMING, {"begun": 31}, Stop.TOTAL),
    "opening for ever, with retries": (Phase.OPENING, {"begun": 31, "sent": 1}, Stop.TOTAL),
    "ending": (Phase.ENDING, {"begun": 100, "moved": 100}, None),
}


@pytest.mark.parametrize("what", OVERDUE)
def test_each_phase_has_its_deadline(what: str) -> None:
    phase, seconds_ago, why = OVERDUE[what]
    call = SomeCall(phase, **seconds_ago)
    assert _pulse(SomeBank(), SomeBuckets())._overdue(cast(Pump, call), call.now) == why


def test_an_answer_nobody_listens_to_is_read_for_a_bounded_time() -> None:
    call = SomeCall(Phase.STREAMING)
    call.deaf_since = call.now - 4
    assert _pulse(SomeBank(), SomeBuckets())._overdue(cast(Pump, call), call.now) is Stop.CALLER_LEFT


async def test_overdue_calls_are_stopped_and_the_others_are_not(pulse: Pulse) -> None:
    late, fine = SomeCall(Phase.STREAMING, moved=21), SomeCall()
    _join(pulse, late, fine)
    await until(lambda: late.stopped)
    assert set(late.stopped) == {Stop.IDLE} and fine.stopped == []


async def test_every_call_beats_again_and_again(pulse: Pulse, bank: SomeBank) -> None:
    one, two = SomeCall(), SomeCall()
    _join(pulse, one, two)
    await until(lambda: bank.heard.count(one.id) > 2 and bank.heard.count(two.id) > 2)
    assert one.heard[0].amount == 7


async def test_beats_go_on_when_the_bank_is_back(pulse: Pulse, bank: SomeBank) -> None:
    bank.away = True
    call = SomeCall()
    _join(pulse, call)
    await asyncio.sleep(0.15)
    assert call.heard == []
    bank.away = False
    await until(lambda: call.heard)


async def test_one_who_cannot_wait_beats_alone() -> None:
    bank = SomeBank()
    pulse = _pulse(bank, SomeBuckets(), beat_s=60)
    pulse.start()
    try:
        eager, patient = SomeCall(), SomeCall()
        _join(pulse, eager, patient)
        pulse.beat_soon(cast(Pump, eager))
        await until(lambda: bank.heard)
        assert bank.heard == [eager.id]
    finally:
        await pulse.stop()


async def test_a_call_that_breaks_the_round_does_not_end_the_clockwork(pulse: Pulse, bank: SomeBank) -> None:
    broken, fine = SomeCall(), SomeCall()
    broken.beat = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    _join(pulse, broken)
    await asyncio.sleep(0.1)
    pulse.pumps.clear()
    _join(pulse, fine)
    await until(lambda: fine.heard)


async def test_slots_are_renewed_and_a_limiter_that_is_away_is_asked_again() -> None:
    buckets = SomeBuckets()
    pulse = _pulse(SomeBank(), buckets)
    _join(pulse, SomeCall())
    await pulse._renew()
    assert buckets.renewed == []
    await pulse._renew()
    assert buckets.renewed == ["ticket"]
