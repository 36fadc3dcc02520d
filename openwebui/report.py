"""How a sync went, or would go: what an admin reads. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from openwebui.deeds import counted
from openwebui.difference import Difference

Outcome = Literal["done", "unchanged", "tried", "refused", "failed", "busy"]
"""done; nothing to do; a dry run; too much at once; Open WebUI or the database away; another one runs."""

LINES_MAX = 500


class OfferedMerge(Struct, frozen=True):
    """Two accounts that may be one person's: the first is gone there, the second has its e-mail address."""

    email: str
    source: UUID
    into: UUID | None
    """None: its account is made by the next sync that is no dry run."""


class Report(Struct, frozen=True):
    """``lines`` say what was done (in a dry run: would be), at most five hundred of ``changes``."""

    at: datetime
    outcome: Outcome
    detail: str = ""
    by: str = ""
    took_s: float = 0.0
    people: int = 0
    groups: int = 0
    changes: int = 0
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    merges: tuple[OfferedMerge, ...] = ()

    @property
    def sentence(self) -> str:
        """In one line."""
        there = f"{counted(self.people, 'user')} and {counted(self.groups, 'group')}"
        changes = counted(self.changes, "change")
        match self.outcome:
            case "done":
                return f"{changes} made; there are {there}"
            case "unchanged":
                return f"nothing to change; there are {there}"
            case "tried":
                return f"{changes} would be made; there are {there}"
            case _:
                return self.detail


def refusal(found: Difference) -> str:
    """Why nothing is done, where too many people would lose something at once; empty where that is not so."""
    if not found.too_much:
        return ""
    return (
        f"{len(found.taken)} of {found.known} people would lose their account or a group at once: that is more than a "
        "fifth of them, and nothing is done. If it is meant, sync with force"
    )


def lines_of(found: Difference) -> tuple[str, ...]:
    """The sentences of what is to be done."""
    return tuple(deed.line for deed in found.deeds[:LINES_MAX])
