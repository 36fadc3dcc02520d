"""What a call leaves behind: its settlement, its corrected windows, its numbers in the metrics, its line in the log."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from gateway.calllog import CallLog
from gateway.errors import Refusal
from gateway.meter import Reading
from gateway.metrics import Metrics
from gateway.tally import Tally
from ledger.hold import Outcome, Settlement
from ledger.money import format_usd
from ledger.poster import Poster
from ledger.teller import void as void_of
from ledger.usage import Usage, UsageSource
from policies.buckets import Buckets
from policies.estimate import PPM, RunningP90, RunningRatio
from policies.tier import Window

if TYPE_CHECKING:
    from gateway.admission import Admission
    from gateway.order import Candidate
    from gateway.pump import Pump
    from gateway.story import Story


_UNKNOWN = "unknown"


class Books:
    """One for each process."""

    def __init__(
        self,
        poster: Poster,
        buckets: Buckets,
        metrics: Metrics,
        log: CallLog,
        tally: Tally,
        output_seen: RunningP90,
        input_seen: RunningRatio,
    ) -> None:
        self._poster = poster
        self._buckets = buckets
        self._metrics = metrics
        self._log = log
        self._tally = tally
        self._output_seen = output_seen
        self._input_seen = input_seen

    def post(
        self,
        story: Story,
        admission: Admission,
        candidate: Candidate,
        reading: Reading,
        outcome: Outcome,
        variant: str = "",
    ) -> None:
        """Hand the charge over to the poster, and note in the story what it came to."""
        usage, bill = reading.usage, candidate.bill
        # Only a name the operator gave to a price is kept: what a backend calls its tiers is its own affair.
        variant = bill.price.known_variant(variant)
        amount = bill.amount(usage, variant)
        facts = admission.facts
        if facts.model != candidate.model.id:
            facts = msgspec.structs.replace(facts, model=candidate.model.id, upstream=candidate.model.upstream)
        now, clock = time.monotonic(), story.clock
        self._poster.submit(
            Settlement(
                request_id=story.request_id,
                wallet_id=admission.wallet_id,
                usage=usage,
                source=reading.source,
                amount=amount,
                price_version=bill.price.version,
                factor_ppm=bill.factor_ppm,
                outcome=outcome,
                at=datetime.now(UTC),
                facts=facts,
                ttft_ms=_millis(clock.first - clock.begun) if clock.first else None,
                duration_ms=_millis(now - clock.begun),
                problems=reading.problems,
                variant=variant,
            )
        )
        if admission.in_tokens:
            story.tokens = amount
        else:
            story.amount = amount
        self._metrics.charged(facts.model, facts.tier, usage, reading.source, story.amount)
        for problem in reading.problems:
            self._metrics.uncharged(problem).inc()
        if outcome is Outcome.COMPLETED and story.surface.has_output:
            self._output_seen.observe(candidate.model.id, usage.output_tokens // story.request.n)
        if reading.source is UsageSource.REPORTED:
            self._learn(candidate, usage)

    def _learn(self, candidate: Candidate, usage: Usage) -> None:
        """How far the estimate of the input was off, by the only one who knows it."""
        model = candidate.model.id
        self._input_seen.observe(model, candidate.estimated, usage.input_tokens)
        self._metrics.estimate_ratio(model).set(self._input_seen.ratio_ppm(model) / PPM)

    def void(self, story: Story, admission: Admission) -> None:
        """The call consumed nothing: its hold is given back, no charge is made."""
        self._poster.submit(void_of(story.request_id, admission.wallet_id, admission.facts))

    def correct(self, admission: Admission, story: Story) -> None:
        """Begin to correct the windows and give the slot back. Called before the caller sees the end of its answer: a
        caller who may run one call at a time begins the next one at once, and must find the slot free. Where that
        cannot be delivered, the slot frees itself, and the windows pass."""
        actual = [_actual(window, story) for window, _ in admission.ticket.ask.rules]
        # What consumed nothing may be made again under the same idempotency key.
        self._buckets.end(admission.ticket, actual, forget=story.reading is None)

    def refused(self, route: str, refusal: Refusal, request_id: UUID) -> None:
        """A call that ended before it was known what it is: wrong key, no body, not JSON."""
        self._refusal(refusal.code, _UNKNOWN)
        self._metrics.request(route, _UNKNOWN, _UNKNOWN, str(refusal.status), refusal.code).inc()
        line = {"at": datetime.now(UTC), "event": "call", "request_id": request_id, "route": route}
        self._log.write({**line, "status": refusal.status, "code": refusal.code})

    async def close(self, pump: Pump) -> None:
        """The last lines of a call: windows and slot, metrics, log."""
        if pump.admission is not None and not pump.corrected:
            self.correct(pump.admission, pump.story)
        self._count(pump)
        self._log.write(self._line(pump))

    def _count(self, pump: Pump) -> None:
        story, metrics = pump.story, self._metrics
        now, clock = time.monotonic(), story.clock
        tier = pump.admission.tier.name if pump.admission else story.tier
        model = pump.model_id or story.known_model
        metrics.request(story.surface.route, model, tier, str(story.status), story.code).inc()
        if story.code and (pump.admission is None or story.outcome is Outcome.CUT_BY_BALANCE):
            self._refusal(story.code, tier)
        upstream_s = max(0.0, (clock.moved or now) - clock.sent) if clock.sent else 0.0
        metrics.overhead_total.observe(max(0.0, now - clock.begun - upstream_s))
        if clock.sent:
            metrics.overhead_before.observe(clock.sent - clock.begun)
            metrics.upstream(model, pump.upstream_name).observe(upstream_s)
        if clock.first and pump.admission is not None:
            metrics.ttft(model).observe(clock.first - clock.begun)

    def _refusal(self, code: str, tier: str) -> None:
        self._metrics.refusal(code, tier).inc()
        self._tally.count(code, tier)

    def _line(self, pump: Pump) -> dict[str, object]:
        story = pump.story
        principal, clock, reading = story.principal, story.clock, story.reading
        now = time.monotonic()
        upstream_s = max(0.0, (clock.moved or now) - clock.sent) if clock.sent else 0.0
        line: dict[str, object] = {
            "at": datetime.now(UTC),
            "event": "call",
            "request_id": story.request_id,
            "route": story.surface.route,
            "status": story.status,
            "code": story.code,
            "user": principal.user_id,
            "key": principal.key_id,
            "tier": pump.admission.tier.name if pump.admission else story.tier,
            "model": pump.model_id or story.request.model[:200],
            "streamed": story.request.stream,
            "task": principal.task,
            "chat": principal.chat_id,
            "outcome": story.outcome,
            "cost_usd": format_usd(story.amount),
            "gateway_ms": _millis(now - clock.begun - upstream_s),
            "upstream_ms": _millis(upstream_s),
        }
        if reading is not None:
            line |= {"usage": reading.usage.parts(), "usage_source": reading.source, "problems": reading.problems}
        if pump.admission is not None and pump.admission.in_tokens:
            line["cost_tokens"] = story.tokens
        if principal.acted_by:
            line["acted_by"] = principal.acted_by
        return line


def _actual(window: Window, story: Story) -> int:
    """What the call turned out to cost, in the unit of the window. It was a request whatever came of it."""
    if window.of == "requests":
        return 1
    if window.of == "cost":
        return story.amount
    usage = story.reading.usage if story.reading else None
    if usage is None:
        return 0
    match window.of:
        case "input_tokens":
            return usage.input_tokens
        case "output_tokens":
            return usage.output_tokens
        case _:
            return usage.tokens


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
