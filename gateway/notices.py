"""What a person is told beside an answer: that the allowance is nearly used up, or that the balance runs low.

Open WebUI shows a chunk with the key ``event`` as a line above the answer or as a toast. It is sent only where Open
WebUI certainly reads it: in a stream that names a chat and an answer and is no task. It is said once for each crossing.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gateway.envelope import event_chunk
from gateway.language import Count, Link, Sentence, Usd, Word, sentence
from gateway.voice import Voice
from ledger.period import Plan, bounds
from ledger.store import Balance, Bank, BankUnavailable

if TYPE_CHECKING:
    from gateway.admission import Admission
    from gateway.story import Story

How = Literal["status", "toast"]
STEPS = (95, 80)
"""Per cent of an allowance that are told of, the later one first."""
_ROUTE = "chat.completions"
_PATIENCE_S = 1.0
_LOW_TTL_S = 7 * 86_400
_SHORT = 10**5  # nano-USD: people are not told of more than four decimals
_log = logging.getLogger("farebox.gateway")


class Told(Protocol):
    """What was said already (`policies.told_redis`)."""

    async def first(self, name: str, ttl_s: int) -> bool: ...

    async def forget(self, name: str) -> None: ...


class Notices:
    """One for each process. ``low_balance`` (nano-USD) is what somebody without an allowance is told of; 0: never."""

    def __init__(self, how: How, bank: Bank, voice: Voice, told: Told, low_balance: int) -> None:
        self.how = how
        self.bank = bank
        self.voice = voice
        self.told = told
        self.low_balance = low_balance

    def watch(self, story: Story, admission: Admission) -> Notice | None:
        """What may be to be told at the end of this call; None for a call at whose end nobody reads it."""
        who, purse = story.principal, admission.purse
        shown = who.forwarded and who.chat_id and who.message_id and not who.task
        if not shown or not story.request.stream or story.surface.route != _ROUTE or purse.house:
            return None
        if purse.plan is not None:
            return AllowanceNotice(self, story, admission, purse.plan) if purse.plan.amount else None
        return BalanceNotice(self, story, admission) if self.low_balance else None


class Notice(ABC):
    """What one call may have to tell."""

    def __init__(self, house: Notices, story: Story, admission: Admission) -> None:
        self._house = house
        self._story = story
        self._admission = admission

    async def chunk(self, amount: int) -> bytes:
        """The event for the end of the stream, the call having been charged ``amount``; mostly none. Never fails: the
        answer is there, and is not to be lost over this."""
        try:
            said = await self._said(amount)
        except Exception as error:
            _log.warning("notice not given", extra={"error": type(error).__name__})
            return b""
        if said is None:
            return b""
        story, house = self._story, self._house
        event = _event(house.how, house.voice.say(said, story.principal))
        # What was relayed last may have been a line of an event that is still open.
        return b"\n" + event_chunk(story.request.model, event, str(story.request_id))

    @abstractmethod
    async def _said(self, amount: int) -> Sentence | None: ...

    @property
    def _link(self) -> Link:
        return Link(self._admission.upgrade_url)


class AllowanceNotice(Notice):
    """How much of the period's allowance is used. What is left of it is asked of the bank while the answer runs: a
    wallet may hold other money beside it."""

    def __init__(self, house: Notices, story: Story, admission: Admission, plan: Plan) -> None:
        super().__init__(house, story, admission)
        self._plan = plan
        self._ends = bounds(plan, datetime.now(UTC))[1]
        self._left = asyncio.create_task(self._look(), name="notice")

    async def _look(self) -> Balance | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._house.bank.balance(self._admission.wallet_id, self._plan)
        except (BankUnavailable, LookupError, TimeoutError):
            return None

    async def _said(self, amount: int) -> Sentence | None:
        balance = await self._left
        if balance is None:
            return None
        whole = self._plan.amount
        left = max(0, balance.by_kind.get("plan", 0) - amount)
        used = max(0, whole - left) * 100 // whole
        crossed = [step for step in STEPS if used >= step]
        if not crossed or not await self._first(crossed):
            return None
        shown = Count(left) if self._admission.in_tokens else Usd(_short(left))
        every = Word("every", self._plan.every)
        return sentence("notice_allowance", percent=used, every=every, left=shown, date=self._ends, url=self._link)

    async def _first(self, crossed: list[int]) -> bool:
        """Whether the furthest of these was not told of yet; those before it need not be told of any more."""
        ends, told = self._ends, self._house.told
        ttl_s = int((ends - datetime.now(UTC)).total_seconds()) + 1
        named = [f"allowance:{self._admission.wallet_id}:{self._plan.name}:{ends:%Y%m%d}:{step}" for step in crossed]
        answers = [await told.first(name, ttl_s) for name in named]
        return answers[0]


class BalanceNotice(Notice):
    """That the balance has fallen below the setting."""

    async def _said(self, amount: int) -> Sentence | None:
        admission, house = self._admission, self._house
        left = max(0, admission.available + admission.held - amount)
        name = f"low:{admission.wallet_id}"
        if left >= house.low_balance:
            await house.told.forget(name)
            return None
        if not await house.told.first(name, _LOW_TTL_S):
            return None
        return sentence("notice_balance", balance=Usd(_short(left)), url=self._link)


def _event(how: How, text: str) -> dict[str, Any]:
    """As Open WebUI understands it."""
    if how == "toast":
        return {"type": "notification", "data": {"type": "warning", "content": text}}
    return {"type": "status", "data": {"description": text, "done": True}}


def _short(nano: int) -> int:
    """Rounded down to four decimals, but for amounts that would then be nearly nothing."""
    return nano // _SHORT * _SHORT if nano >= 100 * _SHORT else nano
