"""The rules of the money protocol, broken one at a time by patching its own code: each must be caught.

A simulation that finds nothing shows something only if it would have found what is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from unittest.mock import patch

from msgspec.structs import replace

from gateway import dialect, payment
from gateway.pump import Pump
from ledger import hold as hold_rules
from ledger import holds_sql
from ledger.booking import Booking
from ledger.hold import Closing, Hold, Rev, Settlement
from ledger.poster import Poster
from ledger.store import BankUnavailable
from ledger.teller import Teller
from ledger.wallet import Grant, Wallet
from policies import buckets_fallback
from simulation import functions
from simulation.scenario import Fault
from simulation.tables import Tables

Patch = Any


def _no_quarantine() -> list[Patch]:
    reap = holds_sql._reap

    def reaped(booking: Booking, wallet: Wallet, hold: Hold, now: datetime) -> None:
        reap(booking, wallet, hold, now)
        holds_sql._release(booking, wallet, hold, now)

    return [patch.object(holds_sql, "_reap", reaped)]


def _no_unique_key() -> list[Patch]:
    settle = hold_rules.settle

    def settled(wallet: Wallet, hold: Hold, prior: Any, event: Settlement, refunds: Any = ()) -> Closing | None:
        return settle(wallet, hold, [charge for charge in prior if charge.rev is Rev.PROVISIONAL], event, refunds)

    add = Tables.add

    def added(self: Tables, table: Any, key: Any, row: Any, beside: Any = None) -> None:
        again = table is self.charges and key in table
        add(self, table, (*key, len(table)) if again else key, row, beside)

    return [patch.object(holds_sql, "settle", settled), patch.object(Tables, "add", added)]


def _sum_of_usage() -> list[Patch]:
    def merged(counts: dialect.Counts, later: dialect.Counts) -> dialect.Counts:
        return {name: counts.get(name, 0) + later.get(name, 0) for name in counts.keys() | later.keys()}

    return [patch.object(dialect, "merge", merged)]


def _settle_in_the_request() -> list[Patch]:
    """The caller's leaving cancels the task that would have settled."""

    def left(self: Pump) -> None:
        self._settled = True
        if self._task is not None:
            self._task.cancel()

    return [patch.object(Pump, "caller_left", left)]


def _full_limit_per_replica() -> list[Patch]:
    return [patch.object(buckets_fallback, "shared", lambda ask, replicas: ask)]


def _hold_not_checked() -> list[Patch]:
    hold = Teller.open

    async def unchecked(self: Teller, ask: Any) -> Any:
        reply = await hold(self, replace(ask, wanted=0, minimum=0))
        return replace(reply, amount=ask.wanted)

    return [patch.object(Teller, "open", unchecked)]


def _forward_past_the_hold() -> list[Patch]:
    return [patch.object(payment.Payment, "covers", lambda self, output: True)]


def _forget_the_void() -> list[Patch]:
    init = Teller.__init__

    def made(self: Teller, bank: Any, *, regret: Any, **named: Any) -> None:
        init(self, bank, regret=lambda event: None, **named)

    return [patch.object(Teller, "__init__", made)]


def _empty_the_queue_first() -> list[Patch]:
    async def posted(self: Poster, parts: deque[Sequence[Settlement]]) -> Sequence[Settlement]:
        try:
            unposted = await self._bank.close(parts[0])
        except BankUnavailable:
            return ()
        return unposted.busy

    return [patch.object(Poster, "_post", posted)]


def _reap_the_living() -> list[Patch]:
    """A beat is recorded, and the hold's end stays where it was."""
    beat = functions._beat

    def beaten(tables: Tables, owner: str, instant: datetime, expires_at: datetime, place: int, *rest: Any) -> Any:
        hold = tables.holds.get(rest[0])
        return beat(tables, owner, instant, expires_at if hold is None else hold.expires_at, place, *rest)

    return [patch.object(functions, "_beat", beaten)]


def _refund_by_todays_order() -> list[Patch]:
    def given_back(self: Wallet, burnt: Any, amount: int) -> list[Any]:
        postings, left = [], amount
        for grant in sorted(self.grants, key=Grant.order):
            give = min(left, max(0, amount if grant.remaining else 0))
            if give:
                postings.append(self._move(grant, give))
                left -= give
        return postings

    return [patch.object(Wallet, "unburn", given_back)]


class Mutant(NamedTuple):
    """What is broken, how, and under which faults it shows soonest."""

    says: str
    patches: Callable[[], list[Patch]]
    faults: tuple[Fault, ...]


MUTANTS: dict[str, Mutant] = {
    "no-quarantine": Mutant("a silent process's hold is free at once", _no_quarantine, ("stop",)),
    "no-unique-key": Mutant("a word said twice is charged twice", _no_unique_key, ("bank", "delay")),
    "sum-of-usage": Mutant("cumulative usage is summed", _sum_of_usage, ()),
    "settle-in-request": Mutant("a caller who leaves takes the settlement away", _settle_in_the_request, ()),
    "full-limit": Mutant("each replica counts the whole limit, Redis being away", _full_limit_per_replica, ("redis",)),
    "hold-unchecked": Mutant("a call runs whatever its wallet has", _hold_not_checked, ()),
    "past-the-hold": Mutant("an answer is forwarded past its hold", _forward_past_the_hold, ()),
    "void-forgotten": Mutant("a hold of unknown commit is left to itself", _forget_the_void, ("delay",)),
    "queue-emptied": Mutant("a word is forgotten before it is committed", _empty_the_queue_first, ("bank",)),
    "reaper-deaf": Mutant("the reaper does not hear beats", _reap_the_living, ()),
    "refund-order": Mutant("a refund goes by today's order", _refund_by_todays_order, ()),
}
"""By name."""


@contextmanager
def broken_by(name: str) -> Iterator[None]:
    """While the block lasts, this rule does not hold. Raises KeyError for an unknown name."""
    with ExitStack() as stack:
        for each in MUTANTS[name].patches():
            stack.enter_context(each)
        yield
