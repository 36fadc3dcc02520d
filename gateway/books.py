"""What a call leaves behind: its settlement, its corrected windows, its numbers in the metrics, its line in the log."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from gateway.calllog import CallLog
from gateway.ended import Ended
from gateway.errors import Refusal
from gateway.meter import Reading
from gateway.metrics import Metrics
from gateway.tally import Tally
from ledger.hold import Outcome, Settlement
from ledger.poster import Poster
from ledger.teller import void as void_of
from ledger.usage import Usage, UsageSource
from policies.buckets import Buckets
from policies.estimate import PPM, RunningP90, RunningRatio

if TYPE_CHECKING:
    from gateway.admission import Admission
    from gateway.order import Candidate
    from gateway.pump import Pump
    from gateway.story import Story

_UNKNOWN = "unknown"
_NOTHING = Usage()
_SHOWN = 200  # characters of the caller's own word for a model


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
        passed: int = 0,
    ) -> None:
        """Hand the charge over to the poster, and note in the story what it came to. ``passed``: the output tokens that
        went to the caller, as reckoned on the way."""
        usage, bill = reading.usage, candidate.bill
        if variant:
            # Only a name the operator gave to a price is kept: what a backend calls its tiers is its own affair.
            variant = bill.price.known_variant(variant)
        amount = bill.amount(usage, variant)
        facts = admission.facts
        if facts.model != candidate.model.id:
            facts = msgspec.structs.replace(facts, model=candidate.model.id, upstream=candidate.model.upstream)
        clock = story.clock
        begun, first = clock.begun, clock.first
        self._poster.submit(
            Settlement(  # in the order of its fields: see `_ended`
                story.request_id,
                admission.purse.wallet_id,
                usage,
                reading.source,
                amount,
                bill.price.version,
                bill.factor_ppm,
                outcome,
                datetime.now(UTC),
                facts,
                ttft_ms=round((first - begun) * 1000) if first else None,
                duration_ms=round((time.monotonic() - begun) * 1000),
                problems=reading.problems,
                variant=variant,
            )
        )
        if admission.in_tokens:
            story.tokens = amount
        else:
            story.amount = amount
        for problem in reading.problems:
            self._metrics.uncharged(problem).inc()
        if outcome is Outcome.COMPLETED and story.surface.has_output:
            # A hold covers what is reckoned on the way, which leans upwards: less, and a usual answer outgrows it.
            self._output_seen.observe(candidate.model.id, max(usage.output_tokens, passed) // story.request.n)
        if reading.source is UsageSource.REPORTED:
            # How far the estimate of the input was off, by the only one who knows it.
            self._input_seen.observe(candidate.model.id, candidate.estimated, usage.input_tokens)
            self._metrics.estimated(candidate.model.id, self._ratio)

    def _ratio(self, model: str) -> float:
        return self._input_seen.ratio_ppm(model) / PPM

    def void(self, story: Story, admission: Admission) -> None:
        """The call consumed nothing: its hold is given back, no charge is made."""
        self._poster.submit(void_of(story.request_id, admission.wallet_id, admission.facts))

    def correct(self, admission: Admission, story: Story) -> None:
        """Begin to correct the windows and give the slot back. Called before the caller sees the end of its answer: a
        caller who may run one call at a time begins the next one at once, and must find the slot free. Where that
        cannot be delivered, the slot frees itself, and the windows pass."""
        consumed = _consumed(story)
        actual = [consumed[window.of] for window, _ in admission.ticket.ask.rules]
        # What consumed nothing may be made again under the same idempotency key.
        self._buckets.end(admission.ticket, actual, forget=story.reading is None)

    def refused(self, route: str, refusal: Refusal, request_id: UUID) -> None:
        """A call that ended before it was known what it is: wrong key, no body, not JSON."""
        self._refusal(refusal.code, _UNKNOWN)
        self._metrics.request(route, _UNKNOWN, _UNKNOWN, str(refusal.status), refusal.code).inc()
        line = {"at": datetime.now(UTC), "event": "call", "request_id": request_id, "route": route}
        self._log.write({**line, "status": refusal.status, "code": refusal.code})

    def close(self, pump: Pump) -> None:
        """The last lines of a call: windows and slot, metrics, log."""
        story, admission = pump.story, pump.admission
        if admission is not None and not pump.corrected:
            self.correct(admission, story)
        tier = story.tier if admission is None else admission.tier.name
        if story.code and (admission is None or story.outcome is Outcome.CUT_BY_BALANCE):
            self._refusal(story.code, tier)
        ended = _ended(pump, tier)
        self._metrics.ended(ended)
        self._log.write(ended)

    def _refusal(self, code: str, tier: str) -> None:
        self._metrics.refusal(code, tier).inc()
        self._tally.count(code, tier)


def _consumed(story: Story) -> dict[str, int]:
    """What the call turned out to cost, by the unit of a window. It was a request whatever came of it."""
    usage = story.reading.usage if story.reading else _NOTHING
    taken, given = usage.input_tokens, usage.output_tokens
    return {
        "requests": 1,
        "cost": story.amount,
        "input_tokens": taken,
        "output_tokens": given,
        "tokens": taken + given,
    }


def _ended(pump: Pump, tier: str) -> Ended:
    story, admission = pump.story, pump.admission
    now, clock = time.monotonic(), story.clock
    upstream_s = max(0.0, (clock.moved or now) - clock.sent) if clock.sent else None
    first_s = clock.first - clock.begun if clock.first and admission is not None else None
    # In the order of the fields: so many names would cost four times what the value does.
    return Ended(
        time.time(),
        story.request_id,
        story.surface.route,
        story.status,
        story.code,
        story.principal,
        tier,
        pump.model_id,
        pump.upstream_name,
        story.known_model,
        story.request.model[:_SHOWN],
        story.request.stream,
        story.outcome,
        story.amount,
        story.tokens if admission is not None and admission.in_tokens else None,
        story.reading,
        now - clock.begun,
        clock.sent - clock.begun,
        upstream_s,
        first_s,
    )
