"""The story of one call after its body was read: admit, forward, meter, settle.

It always reaches its last lines: the hold is resolved once, the slot given back, one log line written. A request's own
task may die at any time with servers that cancel it when the caller leaves; then the story runs as a task of its own,
which the server does not know. Whoever wants a call to end says why with
``stop``. A meter is a tap on the pipe, not a valve: bytes go on unchanged and at once, and only the end of the money
holds them back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from config.catalog import Model
from gateway import sentences
from gateway.admission import Admission, Admitter
from gateway.answer import Answer
from gateway.books import Books
from gateway.counting import Counting
from gateway.downstream import Caller, Headers, Scope, Send
from gateway.envelope import Spent
from gateway.errors import Refusal, internal
from gateway.forward import Forwarder
from gateway.headers import to_downstream
from gateway.language import sentence
from gateway.mark import flowed, to_the_end, until_marked
from gateway.meter import Reading
from gateway.notices import Notice, Notices
from gateway.opening import opened
from gateway.passage import Passage
from gateway.payment import Payment
from gateway.phase import Phase, Stop
from gateway.pulse import Pulse
from gateway.sse import EventTooLarge
from gateway.story import Story
from gateway.surface import Meter
from gateway.upstream import Reply, UpstreamFailure
from gateway.voice import Voice
from ledger.hold import Outcome
from ledger.store import Beat, BeatReply
from ledger.teller import Teller
from ledger.usage import Usage

_log = logging.getLogger("farebox.gateway")
RESTART_S = 5
"""After how long it is worth to try again a service that is being restarted."""
_REFUSAL_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class House:
    """What every call of this process shares."""

    admitter: Admitter
    forwarder: Forwarder
    counting: Counting
    teller: Teller
    books: Books
    pulse: Pulse
    beat_tokens: int
    voice: Voice = field(default_factory=Voice)
    notices: Notices | None = None


class Pump:
    """One call. ``run`` is its whole life; what is public beside it is for others to call."""

    def __init__(self, story: Story, scope: Scope, send: Send, house: House) -> None:
        self.story = story
        self.admission: Admission | None = None
        self.payment: Payment | None = None  # from the admission on
        self.deaf_since = 0.0  # nobody listens since then, but the answer is read to its end
        self.corrected = False  # windows and slot, from the settlement on
        self.answer = Answer(story, scope, send)
        self.broken_off: Callable[[], object] | None = None  # told when the call is over and was never answered whole
        self._passage: Passage | None = None  # once a stream has begun
        self._house = house
        self._task: asyncio.Task[None] | None = None
        self._caller: Caller | None = None  # where the server tells of it
        self._ended: asyncio.Future[None] | None = None  # somebody waits for the end
        self._why: Stop | None = None
        self._reply: Reply | None = None
        self._meter: Meter | None = None
        self._notice: Notice | None = None
        self._settled = False
        self._closing = False  # settling, or at the last lines: not to be interrupted

    # For others ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, as a task of its own."""
        self._house.pulse.pumps.add(self)
        self._task = asyncio.create_task(self.run())
        self._task.add_done_callback(self._over)

    def run_here(self, caller: Caller) -> Awaitable[None]:
        """The whole call, to be awaited in the task of its caller, which nobody but ``stop`` cancels."""
        self._house.pulse.pumps.add(self)
        self._caller, self._task = caller, caller.task
        caller.when_gone(self.caller_left)
        return self.run()

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    @property
    def held(self) -> int:
        """What is set aside for this call, nano-USD."""
        return 0 if self.payment is None or self.payment.admission.in_tokens else self.payment.held

    @property
    def model_id(self) -> str:
        """The model that answers; empty where none was admitted."""
        return self.payment.answering.model.id if self.payment else ""

    @property
    def upstream_name(self) -> str:
        return self.payment.answering.model.upstream if self.payment else ""

    async def wait(self) -> None:
        """Return when the call is over."""
        if self._task is not None and not self._task.done():
            if self._ended is None or self._ended.done():
                self._ended = asyncio.get_running_loop().create_future()
            await self._ended

    def caller_left(self) -> None:
        """The caller is gone: abort, unless this model's answers are read to their end (and not too many are)."""
        house = self._house
        drains = self.story.phase in (Phase.STREAMING, Phase.SENDING) and self._model.on_disconnect == "drain"
        if drains and self._why is None and house.pulse.deaf < house.forwarder.limits.drained_streams_max:
            self._why, self.deaf_since, self.answer.unheard = Stop.CALLER_LEFT, time.monotonic(), True
            if self._passage is not None:
                self._passage.write = None
        else:
            self.stop(Stop.CALLER_LEFT)

    def stop(self, why: Stop) -> None:
        """End the call. While it is being admitted or settled only a note is taken: the bank is not left in the dark.
        One whose last byte has gone ends by itself: a server says "complete" and "left" with the same word."""
        if self.story.phase is Phase.ENDING:
            return
        # That the caller left outweighs a timeout of the same moment: nobody is there to answer a second try.
        self._why = why if why is Stop.CALLER_LEFT else self._why or why
        self.answer.unheard = self._why is Stop.CALLER_LEFT
        if self.story.phase is Phase.ADMITTING:
            self._house.admitter.leave(self.story.request_id)
        elif self._task is not None and not self._closing:
            self._task.cancel()

    def beat(self) -> Beat | None:
        """What the bank is told every few seconds: used so far, and the hold that covers the next beat and a half."""
        if self.payment is None or self._settled:
            return None
        output = self._meter.estimate() if self._meter else 0
        return self.payment.beat(output, self._usage_so_far(output))

    def beaten(self, reply: BeatReply) -> None:
        """The bank's answer to a beat."""
        if self.payment is not None:
            self.payment.beaten(reply)

    def beat_soon(self) -> None:
        """Much has passed since the last beat."""
        self._house.pulse.beat_soon(self)

    # The story ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Admit, forward, meter, settle; and on every way out, the last lines."""
        try:
            await self._tell()
        except asyncio.CancelledError:
            await self._stopped()
        except Refusal as refusal:
            await self._refuse(refusal)
        except UpstreamFailure as failure:
            await self._upstream_failed(failure)
        except Exception:
            _log.exception("call failed", extra={"request_id": self._id})
            await self._refuse(internal())
        finally:
            await self._last_lines()

    async def _tell(self) -> None:
        story, house = self.story, self._house
        admission = await house.admitter.admit(
            story.surface, story.request, story.principal, story.request_id, story.idempotency
        )
        self.admission, self.payment = admission, (payment := Payment(story.request_id, admission))
        if house.notices is not None:
            self._notice = house.notices.watch(story, admission)
        story.phase = Phase.OPENING
        if self._why is not None:
            raise asyncio.CancelledError
        request_id = admission.ticket.ask.request_id
        self._reply = reply = await opened(story, request_id, payment, house.forwarder, self._only_late)
        if not 200 <= reply.status < 300:
            await self._pass_refusal(reply)
        elif reply.is_event_stream or story.surface.reply == "raw":
            await self._stream(reply, payment)
        else:
            await self._whole(reply, payment)

    async def _stream(self, reply: Reply, payment: Payment) -> None:
        limits = self._house.forwarder.limits
        surface, count = self.story.surface, self._house.counting.counter(self._model)
        relay = surface.tap(self.story.request, count, self._cost, limits.event_bytes_max)
        self._meter = meter = relay.meter
        self.story.phase = Phase.STREAMING
        write = await self.answer.head(reply.status, to_downstream(reply.headers, self._own_headers()))
        reply.headers.clear()  # a stream may be long, and nobody asks for them again
        passage = Passage(relay, payment, self.story.clock, self, self._house.beat_tokens, write)
        self._passage = passage
        try:
            while await flowed(reply, passage):
                if payment.beyond:
                    if not await self._extended(payment, meter):
                        return await self._cut(reply, payment)
                    passage.covered(meter.estimate())  # by now from an exact count
                if passed := passage.rest():
                    await self.answer.piece(passed)
                if relay.done and not surface.reopens:
                    break
            rest = b"" if relay.done else relay.close()
        except EventTooLarge as large:
            raise UpstreamFailure("too_large", str(large)) from large
        await self._settle(Outcome.UPSTREAM_ERROR if relay.failed else self._well)
        await until_marked(reply, relay)
        if self._notice is not None and relay.done and not relay.failed and self._why is None:
            rest += await self._notice.chunk(self.story.tokens or self.story.amount)
        await self.answer.last(rest + relay.terminal)
        await to_the_end(reply)

    async def _whole(self, reply: Reply, payment: Payment) -> None:
        story, house, surface = self.story, self._house, self.story.surface
        story.phase = Phase.STREAMING
        body = await reply.read_all(house.forwarder.limits.reply_bytes_max, self._moved)
        if surface.reply == "json" and body.lstrip()[:1] not in (b"{", b"["):
            raise UpstreamFailure("protocol", "the reply is not JSON")
        count = house.counting.counter(payment.answering.model)
        self._meter = meter = surface.whole(story.request, body, reply.content_type, count)
        if not payment.covers(meter.estimate()) and not await self._extended(payment, meter):
            return await self._withhold(payment)
        await self._settle(self._well)
        await self._reply_whole(reply, body, payment.headers(story.tokens or story.amount))

    async def _pass_refusal(self, reply: Reply) -> None:
        """The backend said no: its own 4xx goes on as it is; anything else is a failed backend."""
        if not 400 <= reply.status < 500:
            raise UpstreamFailure("protocol", f"status {reply.status}")
        body = await reply.read_all(_REFUSAL_BYTES_MAX)
        self.story.code = "upstream_refused"
        await self._settle(Outcome.UPSTREAM_ERROR, void=True)
        await self._reply_whole(reply, body, [])

    # The money's end ----------------------------------------------------------------------------------------------

    async def _extended(self, payment: Payment, meter: Meter) -> bool:
        """Nothing is forwarded past the hold, so make it larger first. False: it cannot be."""
        payment.beyond = True
        if not payment.lost:
            meter.anchor(await self._house.counting.text(meter.text(), self._model))
        tokens = meter.estimate()
        if not payment.covers(tokens) and not payment.lost:
            await payment.grow(self._house.teller, tokens, self._usage_so_far(tokens), self._house.beat_tokens)
        payment.beyond = not payment.covers(tokens)
        return not payment.beyond

    async def _cut(self, reply: Reply, payment: Payment) -> None:
        """The money ended in the middle of the answer: abort the backend, charge what was held, say so."""
        reply.close()
        refusal = payment.ended()
        self.story.code = refusal.code
        await self._settle(Outcome.DRAINED if payment.lost else Outcome.CUT_BY_BALANCE)
        self._house.voice.put(refusal, self.story.principal)
        story = self.story
        said = story.surface.envelope.cut(story.request.model, refusal, self._id, self._spent(payment))
        await self.answer.event(said)

    async def _withhold(self, payment: Payment) -> None:
        """The money does not cover an answer that came in one piece: what was held is charged, nothing of it goes
        out. The wallet had enough when the call was admitted; others have spent it since."""
        refusal = payment.ended()
        await self._settle(Outcome.DRAINED if payment.lost else Outcome.CUT_BY_BALANCE)
        await self._refuse(refusal)

    # Ways out -----------------------------------------------------------------------------------------------------

    async def _stopped(self) -> None:
        """Somebody else ended the call (or the loop is closing, which is a drain)."""
        self._closing = True
        while self._task is not None and self._task.cancelling():
            self._task.uncancel()
        match self._why or Stop.DRAINED:
            case Stop.CALLER_LEFT | Stop.SLOW_CALLER:
                self.story.status = self.story.status or 499
                self.story.code = self.story.code or "caller_left"
                await self._settle(Outcome.CALLER_LEFT, void=not self.story.clock.whole)
            case Stop.DRAINED:
                await self._settle(Outcome.DRAINED, void=self._nothing_came())
                await self._refuse(sentences.waiting("draining", "restarting", RESTART_S))
            case why:
                await self._upstream_failed(UpstreamFailure(why.value))  # type: ignore[arg-type]  # the same words

    async def _upstream_failed(self, failure: UpstreamFailure) -> None:
        about = {"request_id": self._id, "kind": failure.kind, "detail": failure.detail}
        _log.warning("upstream failed", extra=about)
        await self._settle(Outcome.UPSTREAM_ERROR, void=self._nothing_came())
        if failure.kind.endswith("timeout"):
            refusal = Refusal.of("upstream_timeout", sentence("backend_late"))
        else:
            refusal = Refusal.of("upstream_error", sentence("backend_failed"))
        refusal.details["limit"] = failure.kind
        await self._refuse(refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        """Tell the caller, before the first byte or after it."""
        self.story.code = refusal.code
        self._house.voice.put(refusal, self.story.principal)
        in_events = self._reply is None or self._reply.is_event_stream
        await self.answer.refuse(refusal, self._id, in_events=in_events)

    async def _settle(self, outcome: Outcome, *, void: bool = False) -> None:
        """Hand the call's money over, once, whatever comes after."""
        payment = self.payment
        if self._settled or payment is None:
            return
        self._settled = self._closing = True
        story, books = self.story, self._house.books
        if self.story.phase in (Phase.OPENING, Phase.STREAMING):
            story.clock.moved = time.monotonic()  # until now it was the backend that was waited for
        story.outcome = outcome
        void = void or story.surface.free or (outcome is Outcome.UPSTREAM_ERROR and self._nothing_came())
        if void:
            books.void(story, payment.admission)
        else:
            meter = self._meter
            reading = meter.reading(0, 0) if meter is not None and meter.sure else await self._read_meter()
            story.reading = payment.within_hold(reading) if payment.beyond else reading
            variant = meter.variant if meter is not None else ""
            answering, passed = payment.answering, payment.passed
            books.post(story, payment.admission, answering, story.reading, outcome, variant, passed)
        books.correct(payment.admission, story)
        self.corrected = True
        self._closing = False

    async def _last_lines(self) -> None:
        try:
            if not self._settled:
                await self._settle(Outcome.UPSTREAM_ERROR)
            self._closing, self.story.phase = True, Phase.ENDING
            if self._reply is not None:
                self._reply.close()
            self._house.books.close(self)
        finally:
            self._house.pulse.pumps.discard(self)
            if self._caller is not None:
                self._caller.when_gone(None)
                if self.story.upload is not None:
                    self.story.upload.close()

    # Small things -------------------------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        """The call's id as people read it. Its admission has written it already."""
        return self.payment.admission.ticket.ask.request_id if self.payment else str(self.story.request_id)

    def _moved(self) -> None:
        self.story.clock.moved = time.monotonic()

    def _over(self, _: asyncio.Task[None]) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self.story.upload is not None:
            self.story.upload.close()
        if self.broken_off is not None and not self.answer.ended:
            self.broken_off()

    def _reply_whole(self, reply: Reply, body: bytes, extra: Headers) -> Awaitable[None]:
        own = [*self._own_headers(), (b"content-length", b"%d" % len(body)), *extra]
        return self.answer.whole(reply.status, to_downstream(reply.headers, own), body)

    def _only_late(self) -> bool:
        """Whether the call was stopped for its first byte alone; then it goes on."""
        if self._why is not Stop.FIRST_BYTE or self._task is None:
            return False
        self._why = None
        self._task.uncancel()
        return True

    async def _read_meter(self) -> Reading:
        """What the call consumed; counted here where the backend did not say."""
        request, surface = self.story.request, self.story.surface
        counting, model = self._house.counting, self._model
        meter = self._meter or surface.whole(request, b"", "", counting.counter(model))
        if meter.sure:
            return meter.reading(0, 0)
        tokens = await surface.count(request, model, counting)
        return meter.reading(tokens, await counting.text(meter.text(), model))

    def _usage_so_far(self, output: int) -> Usage:
        """For a checkpoint: what was reported, or what went to the backend and has come back."""
        assert self.payment is not None
        reported = self._meter.reported if self._meter else None
        if reported is not None:
            return reported.maximum(Usage(output=max(0, output - reported.reasoning - reported.audio_out)))
        if not self.story.clock.head:
            return Usage()
        return msgspec.structs.replace(self.payment.answering.bill.foreseen, output=output)

    def _nothing_came(self) -> bool:
        """Whether the backend gave nothing that could be charged."""
        return self._meter is None or (self._meter.reported is None and not self._meter.estimate())

    def _cost(self, usage: Usage) -> dict[str, Any]:
        assert self.payment is not None
        return self.payment.told(usage, self._variant)

    def _spent(self, payment: Payment) -> Spent | None:
        """What the settled answer came to, where its caller asked for usage."""
        reading = self.story.reading
        if reading is None or not self.story.request.include_usage:
            return None
        usage = reading.usage
        return Spent(usage.input_tokens, usage.output_tokens, payment.told(usage, self._variant))

    def _own_headers(self) -> Headers:
        assert self.admission is not None
        ticket = self.admission.ticket
        return [(b"x-request-id", ticket.ask.request_id.encode()), *sentences.standing_headers(ticket.standings)]

    @property
    def _variant(self) -> str:
        return self._meter.variant if self._meter else ""

    @property
    def _well(self) -> Outcome:
        return Outcome.CALLER_LEFT if self._why is Stop.CALLER_LEFT else Outcome.COMPLETED

    @property
    def _model(self) -> Model:
        assert self.payment is not None
        return self.payment.answering.model
