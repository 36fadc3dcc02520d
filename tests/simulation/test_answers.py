"""The twin has an answer to every statement of the protocol."""

from __future__ import annotations

from ledger import statements
from simulation.answers import ANSWERS

OUTSIDE = {
    "INSERT_OUTSIDE", "OUTSIDE_KNOWN", "INSERT_CLOSED_HOLD",  # charges for work done elsewhere
    "MERGED_INTO", "MERGES_OF", "MARK_MERGED",  # merges of wallets
    "GRANT_STATES",  # a list for people
    "MONTH_MISSING", "MAKE_MONTH", "MONTH_CLOSED", "STRAYS", "FORGET",  # a world of minutes has one month
}  # fmt: skip


def test_every_statement_is_answered_or_known_to_lie_outside() -> None:
    texts = {name: text for name, text in vars(statements).items() if name.isupper() and isinstance(text, str)}
    assert {name for name, text in texts.items() if text not in ANSWERS} == OUTSIDE
