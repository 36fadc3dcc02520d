"""Backend's record = ledger = what callers saw, call by call; each promise's worst figure beside its bound.

Everything is compared in tokens and nano-USD, by the request's id: the backend is sent it, the ledger is keyed by it,
and the caller reads it in the reply. Whoever never got a head has nothing to compare but the nonce.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.usage import Usage
from tests.streams import LARGE, SMALL
from tests.streams import tokens as count
from tests.torture.plan import Plan
from tests.torture.record import Sent
from tests.torture.report import Report
from tests.torture.swarm import Heard

_FRAME_TOKENS = 7
"""Beside a message's own text: 3 a message, 1 its role, 3 to prime the answer."""
_UNFORESEEN = 0.2
"""By so much of it may a request's input be underestimated: it is counted, or reported, when the call is over."""
_RATES = {"small": SMALL, "large": LARGE}
_TICK_S = 1.0
"""What a beat may be late, and its way to the bank, on a machine that has time for it."""
_GROWTH_TOKENS = 512 + 4096
"""What may pass for each growth of a hold that the bank did not answer: a beat's tokens and one read of a socket."""


@dataclass(frozen=True)
class Faults:
    """What was done to the town. ``deaths``: when each process was killed; ``frozen``: those that stood still;
    ``dark``: when the bank could not be reached; ``late_s``: how late everything may be on this machine;
    ``forgetful``: Redis was away or lost what it knew."""

    beat_s: float
    deaths: Mapping[int, float] = field(default_factory=dict)
    frozen: frozenset[int] = frozenset()
    dark: tuple[tuple[float, float], ...] = ()
    late_s: float = 0.0
    forgetful: bool = False


@dataclass(frozen=True)
class Call:
    """One request id, in three words."""

    request_id: str
    sent: list[Sent]
    heard: Heard | None
    hold: Mapping[str, Any] | None
    charges: list[Mapping[str, Any]]

    @property
    def charge(self) -> Mapping[str, Any] | None:
        """The last word."""
        return self.charges[-1] if self.charges else None

    @property
    def usage(self) -> Usage:
        return Usage(**self.charge["usage"]) if self.charge else Usage()

    @property
    def tokens_sent(self) -> int:
        """Of an answer, by the attempt that came furthest."""
        return max((each.tokens for each in self.sent), default=0)

    @property
    def about(self) -> str:
        nonce = self.sent[-1].nonce if self.sent else self.heard.order.plan.nonce if self.heard else "?"
        how = f"{self.charge['rev']} {self.charge['outcome']}" if self.charge else "no charge"
        return f"call {nonce}, request {self.request_id}: {how}"


def calls(
    record: Iterable[Sent], heard: Iterable[Heard], holds: Iterable[Mapping[str, Any]], charges: Iterable[Any]
) -> Iterator[Call]:
    """All that is known of each request."""
    sent_of: defaultdict[str, list[Sent]] = defaultdict(list)
    charges_of: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sent in record:
        sent_of[sent.request_id].append(sent)
    for charge in charges:
        charges_of[str(charge["request_id"])].append(charge)
    heard_of = {each.request_id: each for each in heard if each.request_id}
    hold_of = {str(hold["id"]): hold for hold in holds}
    for request_id in dict.fromkeys([*hold_of, *sent_of, *charges_of, *heard_of]):
        # "final" comes before "provisional" in the alphabet, and after it in time.
        words = sorted(charges_of[request_id], key=lambda charge: charge["rev"] != "provisional")
        yield Call(request_id, sent_of[request_id], heard_of.get(request_id), hold_of.get(request_id), words)


def compare(each: Iterable[Call], heard: Sequence[Heard], faults: Faults, report: Report) -> None:
    """Every call against every promise."""
    paid: defaultdict[str, set[str]] = defaultdict(set)
    for call in each:
        report.counted("calls compared")
        _words(call, report)
        _caller(call, report)
        _reported(call, report)
        _over(call, report)
        _under(call, faults, report)
        _overrun(call, faults, report)
        _given_up(call, faults, report)
        if call.charge and call.charge["amount"]:
            for nonce in {sent.nonce for sent in call.sent}:
                paid[nonce].add(call.request_id)
    _doubles(paid, heard, faults, report)


def _words(call: Call, report: Report) -> None:
    """One provisional word and one other at most; an answer has its charge."""
    revs = [charge["rev"] for charge in call.charges]
    doubled = len(revs) - len(set(revs)) + max(0, len(set(revs) - {"provisional"}) - 1)
    report.bound("double", doubled, 0, call.about)
    if call.sent and call.hold is None:
        report.broke("unheld", f"the backend was called without a hold: {call.about}")
    answered = call.tokens_sent > 0 and any(sent.how != "failed" or sent.streamed for sent in call.sent)
    if answered and call.charge is None and call.hold is not None and call.hold["state"] != "open":
        report.broke("unpaid", f"answered, and not charged: {call.about}")


def _caller(call: Call, report: Report) -> None:
    """What came is this call's own answer, and no more than was sent; what it was told to cost is what it cost."""
    heard = call.heard
    if heard is None:
        return
    report.bound("foreign", int(heard.foreign), 0, call.about)
    report.bound("made_up", max(0, heard.tokens - call.tokens_sent), 0, call.about)
    if heard.cost is not None and call.charge and call.charge["rev"] == "provisional":
        report.counted("told their cost by a process killed before it had posted it")
    elif heard.cost is not None:
        charged = call.charge["amount"] if call.charge else 0
        report.bound("cost_told", abs(heard.cost - charged), 0, call.about)
    if heard.finish == "stop" and heard.done and not heard.error:
        report.bound("short", heard.order.plan.length - heard.tokens, 0, call.about)


def _reported(call: Call, report: Report) -> None:
    """What the backend reported of a call that ended well is what was charged, part by part."""
    charge = call.charge
    if charge is None or charge["outcome"] != "completed" or charge["rev"] == "provisional":
        return
    reported = call.sent[-1].reported
    if reported is None:
        report.bound("counted", abs(call.usage.output - call.tokens_sent), 0, call.about)
        return
    wrong = abs(call.usage.input_tokens - reported[0]) + abs(call.usage.output_tokens - reported[1])
    report.bound("reported", wrong, 0, call.about)


def _over(call: Call, report: Report) -> None:
    """Nothing is charged that the backend did not send."""
    charge = call.charge
    if charge is None:
        return
    more = call.usage.output_tokens - call.tokens_sent
    report.bound("over_kill" if charge["rev"] == "provisional" else "over", max(0, more), 0, call.about)
    if call.sent:
        report.bound("over_input", max(0, call.usage.input_tokens - _input_most(call)), 0, call.about)
    elif charge["amount"]:
        # Its request was just leaving when the call ended: whether it arrived cannot be told apart.
        report.counted("charged its input, not having arrived")
        if call.usage.output_tokens or charge["outcome"] not in ("caller_left", "drained"):
            report.broke("unsent", f"charged, and the backend was never called: {call.about}")


def _input_most(call: Call) -> int:
    """The input of a call: as reported where anything was reported; else counted."""
    reported = max((each.reported[0] for each in call.sent if each.reported), default=0)
    heard = call.heard
    prompt = heard.order.plan.prompt() if heard else None
    own = _FRAME_TOKENS + count(prompt) if prompt else _longest_prompt()
    return max(reported, own)


def _longest_prompt() -> int:
    return _FRAME_TOKENS + count(Plan("x" * 24, 123.45, 9999, 99, "every", "middle", 9999).prompt())


def _under(call: Call, faults: Faults, report: Report) -> None:
    """What a caller was given is charged; after a kill, all but what flowed since the last beat."""
    delivered = call.heard.tokens if call.heard else 0
    missing = delivered - call.usage.output_tokens
    if missing <= 0 or call.heard is None:
        return report.worst("under", 0)
    died = _died(call, faults)
    own_word = call.charge is not None and call.charge["rev"] != "provisional"
    if died is None or own_word:
        return report.bound("under", missing, 0, call.about)
    flowed_s = died - min(died, _when(call, call.usage.output_tokens))
    most = faults.beat_s + _TICK_S + faults.late_s
    if any(begun <= died and ended >= died - most for begun, ended in faults.dark):
        begun = min(begun for begun, ended in faults.dark if ended >= died - most)
        return report.bound("under_dark_s", flowed_s, died - begun + most, call.about)
    report.worst("under_kill_tokens", missing)
    return report.bound("under_kill_s", flowed_s, most, call.about)


def _when(call: Call, tokens: int) -> float:
    """When the backend had sent more than so much."""
    return max((sent.when(tokens) for sent in call.sent), default=0.0)


def _died(call: Call, faults: Faults) -> float | None:
    """When the process that held this call was killed, if it was. Its number is part of its name."""
    return faults.deaths.get(_pid(call)) if call.hold else None


def _pid(call: Call) -> int:
    return int(call.hold["owner"].split("-")[-2]) if call.hold else 0


def _overrun(call: Call, faults: Faults, report: Report) -> None:
    """What a wallet did not cover: nothing, but for the part of the input that its estimate had missed, and for growths
    of a hold that the bank did not answer."""
    overrun = call.charge["overrun"] if call.charge else 0
    rates, unforeseen = _RATES[_model(call)], 1 + call.usage.input_tokens * _UNFORESEEN
    if overrun and overrun <= unforeseen * rates["input"]:
        return report.worst("overrun_input", overrun / rates["input"])
    if overrun and faults.dark:
        return report.bound("overrun_tokens", overrun / rates["output"], _GROWTH_TOKENS, call.about)
    return report.bound("overspend", overrun, 0, call.about)


def _model(call: Call) -> str:
    return call.heard.order.model if call.heard else "small"


def _given_up(call: Call, faults: Faults, report: Report) -> None:
    """A call whose process lived, ran and reached the bank is never taken for dead."""
    if any(charge["outcome"] == "recovered" for charge in call.charges):
        report.counted("calls charged by their last checkpoint")
        if _died(call, faults) is None and _pid(call) not in faults.frozen and not faults.dark:
            report.broke("given_up", f"taken for dead though its process was well: {call.about}")


def _doubles(paid: Mapping[str, set[str]], heard: Sequence[Heard], faults: Faults, report: Report) -> None:
    """A try is charged once; under one key all tries together are, unless Redis forgot the key."""
    tries = Counter(each.order.plan.nonce for each in heard)
    keyed = {each.order.plan.nonce for each in heard if each.order.key}
    for nonce, requests in paid.items():
        most = 1 if nonce in keyed and not faults.forgetful else tries[nonce]
        report.bound("double", max(0, len(requests) - most), 0, f"order {nonce} was charged as {sorted(requests)}")
