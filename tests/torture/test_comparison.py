"""The comparison itself: a town in which all is well agrees, and each lie in one of the three books is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.house import Caller
from tests.torture.comparison import Faults, calls, compare
from tests.torture.plan import PROMPT_TOKENS, Plan
from tests.torture.record import Sent
from tests.torture.report import Report
from tests.torture.swarm import Heard, Order

ID, PID = str(UUID(int=7)), 41
PLAN = Plan("n1", rate=10, length=40)


@dataclass
class Books:
    """One streamed call of forty tokens, reported and whole, in all three books."""

    sent: Sent = field(
        default_factory=lambda: Sent(
            1,
            100.0,
            "n1",
            ID,
            True,
            [(100 + n / 10, n + 1) for n in range(40)],
            (PROMPT_TOKENS, 40),
            "whole",
            104.0,
            40,
        )
    )
    heard: Heard = field(
        default_factory=lambda: Heard(
            Order(cast(Caller, None), PLAN),
            0,
            100.0,
            "whole",
            200,
            ID,
            4000,
            40,
            False,
            "stop",
            True,
            "",
            28_650,
            104.0,
        )
    )
    hold: dict[str, Any] = field(
        default_factory=lambda: {"id": ID, "owner": f"host-{PID}-abcd", "state": "settled", "amount": 1, "spent": 1}
    )
    charges: list[dict[str, Any]] = field(default_factory=lambda: [charge()])

    def found(self, faults: Faults | None = None) -> Report:
        report = Report("lies")
        told = calls([self.sent], [self.heard], [self.hold], self.charges)
        compare(told, [self.heard], faults or Faults(2.0), report)
        return report


def charge(rev: str = "final", outcome: str = "completed", output: int = 40, **more: Any) -> dict[str, Any]:
    usage = {"input": PROMPT_TOKENS, "output": output}
    whole = {"request_id": ID, "rev": rev, "outcome": outcome, "usage": usage, "usage_source": "reported"}
    return {**whole, "amount": 28_650, "overrun": 0, "house": False, **more}


def test_books_that_agree_are_good() -> None:
    report = Books().found()
    assert report.good and report.counts["calls compared"] == 1


def _charged(**more: Any) -> Callable[[Books], None]:
    return lambda books: books.charges.__setitem__(0, charge(**more))


def _heard(**more: Any) -> Callable[[Books], None]:
    return lambda books: setattr(books, "heard", replace(books.heard, **more))


def _sent(**more: Any) -> Callable[[Books], None]:
    return lambda books: setattr(books, "sent", replace(books.sent, **more))


LIES: Mapping[str, tuple[str, Callable[[Books], None]]] = {
    "a second final word": ("double", lambda books: books.charges.append(charge())),
    "a late word after a final one": ("double", lambda books: books.charges.append(charge("late"))),
    "more charged than sent": ("over", _charged(output=41)),
    "other than reported": ("reported", _charged(output=39)),
    "nothing reported and not what was sent": ("counted", _sent(reported=None, tokens=39)),
    "delivered and not charged": ("under", _charged(outcome="caller_left", output=12)),
    "answered and never charged": ("unpaid", lambda books: books.charges.clear()),
    "input beyond the prompt": ("over_input", _charged(usage={"input": 99, "output": 40}, outcome="caller_left")),
    "beyond the wallet by more than an estimate may miss": ("overspend", _charged(overrun=1_200)),
    "taken for dead": ("given_up", lambda books: books.charges.insert(0, charge("provisional", "recovered"))),
    "another's bytes": ("foreign", _heard(foreign=True)),
    "more received than sent": ("made_up", _sent(tokens=30)),
    "less than whole": ("short", _heard(tokens=39)),
    "another cost told": ("cost_told", _heard(cost=28_651)),
    "no hold": ("unheld", lambda books: setattr(books, "hold", {**books.hold, "id": str(UUID(int=8))})),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_found(lie: str) -> None:
    name, tell = LIES[lie]
    books = Books()
    tell(books)
    assert name in {line.partition(":")[0] for line in books.found().broken}


def _killed(output: int) -> Books:
    """Charged by a checkpoint of so many tokens; the caller had all forty, the last one 3.9 s after the first."""
    books = Books(charges=[charge("provisional", "recovered", output)])
    books.heard = replace(books.heard, how="broken", finish="", done=False, cost=None)
    return books


def test_after_a_kill_what_flowed_since_the_last_beat_may_be_missing_and_no_more() -> None:
    died = Faults(2.0, {PID: 104.0})
    assert _killed(20).found(died).good
    assert not _killed(5).found(died).good
    assert not _killed(20).found(Faults(2.0, {PID + 1: 104.0})).good


def test_where_the_bank_was_away_it_is_what_flowed_since_then() -> None:
    dark = Faults(2.0, {PID: 104.0}, dark=((101.0, 130.0),))
    assert _killed(5).found(dark).good


def test_one_order_under_a_key_is_charged_once_unless_redis_forgot() -> None:
    keyed = replace(Books().heard, order=Order(cast(Caller, None), PLAN, key="k"))
    again = str(UUID(int=9))
    books = Books()
    told = [
        *calls([books.sent], [keyed], [books.hold], books.charges),
        *calls([replace(books.sent, request_id=again)], [], [{**books.hold, "id": again}], [charge(request_id=again)]),
    ]
    for forgetful, good in ((False, False), (True, True)):
        report = Report("keys")
        compare(told, [keyed, keyed], Faults(2.0, forgetful=forgetful), report)
        assert report.good is good
