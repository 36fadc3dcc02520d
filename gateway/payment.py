"""The money's end of one call: how far its hold covers the answer, when the hold has to grow, what the call costs, and
what its caller is told of that. Amounts are nano-USD, or tokens where the call is paid with those."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from gateway import sentences
from gateway.admission import Admission
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.meter import Reading
from gateway.order import Candidate
from ledger.money import format_usd
from ledger.store import BankUnavailable, Beat, BeatReply
from ledger.teller import Teller
from ledger.usage import Usage

_UNBOUNDED = 2**53


class Payment:
    """One admitted call, as its wallet sees it. ``answering`` is the model whose bill counts, ``held`` the whole hold,
    ``covered`` the output tokens it pays for, ``beaten_at`` those at the last beat, ``passed`` those that went to the
    caller, ``beyond`` that more has come than the hold covers, and waits or is dropped, ``lost`` that the bank gave the
    call up for dead."""

    def __init__(self, request_id: UUID, admission: Admission) -> None:
        self.admission = admission
        self.held = admission.held
        self.beaten_at = 0
        self.passed = 0
        self.covered = 0
        self.beyond = False
        self.lost = False
        self._request_id = request_id
        self._budget: UUID | None = None  # what kept the hold from growing, if it was not the wallet
        self.answer_by(admission.candidates[0])

    def answer_by(self, candidate: Candidate) -> None:
        """From here on this model's bill counts."""
        self.answering = candidate
        self._hold_is(self.held)

    def covers(self, output: int) -> bool:
        """Whether so many tokens of output may go to the caller."""
        return output <= self.covered

    # The bank -----------------------------------------------------------------------------------------------------

    def beat(self, output: int, used: Usage) -> Beat | None:
        """What the bank is told every few seconds: used so far, and the hold that covers the next beat and a half."""
        if self.lost:
            return None
        pace = max(0, output - self.beaten_at)
        self.beaten_at = output
        ahead = self.answering.bill.expected(output + pace + pace // 2)
        return self._beat(used, ahead if pace and ahead > self.held else 0)

    def beaten(self, reply: BeatReply) -> None:
        """The bank's answer to a beat."""
        self._budget = reply.budget
        if not reply.alive:
            self.lost = True
        elif reply.amount > self.held:
            self._hold_is(reply.amount)

    async def grow(self, teller: Teller, output: int, used: Usage, ahead: int) -> None:
        """Ask for a hold that covers ``ahead`` more tokens than this output. The bank being away, what runs may end
        normally: what it costs beyond the hold is settled afterwards."""
        target = self.answering.bill.expected(output + max(ahead, output // 4))
        try:
            self.beaten(await teller.beat(self._beat(used, target)))
        except BankUnavailable:
            self.covered = output + ahead

    def _beat(self, used: Usage, target: int) -> Beat:
        bill, admission = self.answering.bill, self.admission
        used = self._let_through(used)
        spent = bill.amount(used) if used != Usage() else 0
        wanted = 0 if admission.tier.unlimited else target
        # The version too: the hold was opened at the price of the model asked for, and a fallback has its own.
        return Beat(self._request_id, admission.wallet_id, spent, used, wanted, bill.price.version)

    def _hold_is(self, amount: int) -> None:
        self.held = amount
        self.covered = _UNBOUNDED if self.admission.tier.unlimited else self.answering.bill.covered(amount)

    # What is said -------------------------------------------------------------------------------------------------

    def ended(self) -> Refusal:
        """Why the answer stops here."""
        if self.lost:
            return sentences.lost()
        admission = self.admission
        cap = next((cap for cap in admission.purse.caps if cap.id == self._budget), None)
        return sentences.cut(admission.tier, admission.upgrade_url, admission.purse.of, cap)

    def within_hold(self, reading: Reading) -> Reading:
        """What was cut was not delivered: the charge ends where the hold did, or with what went past it while the bank
        was away."""
        return reading._replace(usage=self._let_through(reading.usage))

    def _let_through(self, usage: Usage) -> Usage:
        """Of this usage, what the hold covers: more has come from the backend, but not gone to the caller."""
        bill = self.answering.bill
        known = msgspec.structs.replace(usage, output=0, reasoning=0, audio_out=0)
        covered = max(self.passed, Bill(bill.price, bill.factor_ppm, known).covered(self.held))
        if usage.output_tokens <= covered or self.admission.tier.unlimited:
            return usage
        reasoning = min(usage.reasoning, covered)
        return msgspec.structs.replace(usage, reasoning=reasoning, output=covered - reasoning, audio_out=0)

    def told(self, usage: Usage, variant: str) -> dict[str, Any]:
        """The members of a usage object that say what this usage costs and what is left."""
        amount = self.answering.bill.amount(usage, variant)
        if self.admission.in_tokens:
            return {"cost": format_usd(0), "tokens_left": self._left(amount)}
        return {"cost": format_usd(amount), "balance": format_usd(self._left(amount))}

    def headers(self, amount: int) -> list[tuple[bytes, bytes]]:
        """The same for a reply that is not streamed, whose call was charged ``amount``."""
        if self.admission.in_tokens:
            left = b"%d" % self._left(amount)
            return [(b"x-farebox-cost", format_usd(0).encode()), (b"x-farebox-tokens-left", left)]
        balance = format_usd(self._left(amount)).encode()
        return [(b"x-farebox-cost", format_usd(amount).encode()), (b"x-farebox-balance", balance)]

    def _left(self, amount: int) -> int:
        admission = self.admission
        if admission.purse.house:
            return max(0, admission.available)
        return max(0, admission.available + admission.held - amount)
