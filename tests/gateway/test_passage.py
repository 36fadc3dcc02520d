"""Each piece of a stream on its way through the call: what goes on in one step, and what is left to the call's task."""

from __future__ import annotations

from gateway.filter import StreamFilter
from gateway.meter import StreamMeter
from gateway.passage import Passage
from gateway.payment import Payment
from gateway.story import Clock
from tests.gateway.test_payment import payment
from tests.streams import DONE, delta


class Somebody:
    """A call whose caller takes pieces as long as it has ``room``."""

    def __init__(self, room: int = 9, beat_tokens: int = 512) -> None:
        self.payment: Payment = payment(60_000)  # ten tokens of input, and fifty to come
        self.written: list[bytes] = []
        self.beats = 0
        self.room = room
        self.clock = Clock(0.0)
        tap = StreamFilter(StreamMeter(len), usage_wanted=False)
        self.passage = Passage(tap, self.payment, self.clock, self, beat_tokens, self.write)

    def write(self, data: bytes) -> bool:
        if len(self.written) < self.room:
            self.written.append(data)
            return True
        return False

    def beat_soon(self) -> None:
        self.beats += 1


def test_a_piece_is_metered_and_written_in_one_step() -> None:
    call = Somebody()
    assert call.passage.take(delta("abc")) and call.passage.take(delta("def"))
    assert call.written == [delta("abc"), delta("def")] and call.passage.rest() == b""
    assert call.payment.passed == 2 and call.clock.moved > 0 and not call.payment.beyond


def test_the_instant_of_the_first_piece_is_kept() -> None:
    call = Somebody()
    call.passage.take(delta("abc"))
    first = call.clock.first
    call.passage.take(delta("def"))
    assert 0 < first == call.clock.first <= call.clock.moved


def test_without_a_way_to_write_all_is_left_to_the_task() -> None:
    call = Somebody()
    call.passage.write = None
    assert not call.passage.take(delta("abc"))
    assert call.passage.rest() == delta("abc") and not call.clock.first


def test_half_a_line_waits_for_its_end() -> None:
    call, whole = Somebody(), delta("abc")
    assert call.passage.take(whole[:9]) and call.written == []
    assert call.passage.take(whole[9:]) and call.written == [whole]


def test_nothing_is_written_past_the_hold() -> None:
    call = Somebody()
    assert call.passage.take(delta("x" * 150))
    assert not call.passage.take(delta("y"))
    assert call.payment.beyond and call.payment.passed == 50 and len(call.written) == 1
    assert call.passage.rest() == delta("y")


def test_what_the_caller_does_not_take_at_once_is_left_to_the_task() -> None:
    call = Somebody(room=0)
    assert not call.passage.take(delta("abc"))
    assert call.passage.rest() == delta("abc") and call.passage.rest() == b""
    assert call.payment.passed == 1 and not call.payment.beyond


def test_the_end_of_the_answer_is_left_to_the_task() -> None:
    call = Somebody()
    assert not call.passage.take(delta("abc", "stop") + DONE)
    assert call.written == [delta("abc", "stop")] and call.passage.rest() == b""
    assert call.passage.tap.done


def test_the_bank_is_to_hear_of_much_that_passed() -> None:
    call = Somebody(beat_tokens=3)
    call.passage.take(delta("abcdef"))
    assert call.beats == 0
    call.passage.take(delta("ghi"))
    assert call.beats == 1
