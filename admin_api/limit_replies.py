"""How limits are shown: windows, calls at once and budgets, each with what is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from admin_api.people import ID
from admin_api.wire import Instant, Reply, UsdOut
from ledger.money import format_usd
from ledger.store import BudgetState
from policies.buckets import Level
from policies.caps import Cap
from policies.caps import Of as CapOf
from policies.lanes import Lane, lane_of_window
from policies.tier import Of, Window

_UNIT = "Requests or tokens as a whole number; USD as text where a cost is limited."


class LimitReply(Reply):
    """At most so much within any such time."""

    name: str = Field(description="By which a reset names it.", examples=["requests/60"])
    scope: Literal["tier", "key"] = Field(description="Who sets it.", examples=["tier"])
    key_id: UUID | None = Field(description="The key that sets it.", examples=[None])
    of: Of = Field(description="What is counted.", examples=["requests"])
    seconds: int = Field(description="Within how many seconds.", examples=[60])
    route: str | None = Field(description="Counts this route alone.", examples=[None])
    models: list[str] = Field(description="Counts these models alone; empty: all.", examples=[[]])
    lane: Lane | None = Field(
        description="Whose calls it counts: the user's own, tasks nobody typed, or embeddings; null: all of them.",
        examples=["own"],
    )
    limit: int | str = Field(description=_UNIT, examples=[60])
    used: int | str | None = Field(description="What is used; null: it cannot be read now.", examples=[12])
    left: int | str | None = Field(description="What is left; null: it cannot be read now.", examples=[48])
    resets_at: Instant | None = Field(description="When all of it is back.")

    @classmethod
    def of_window(cls, window: Window, key_id: UUID | None, level: Level | None, now: datetime) -> LimitReply:
        """A window and how full it is."""
        shown: Callable[[int], Any] = format_usd if window.of == "cost" else int
        used = level is not None and level.used > 0
        return cls(
            name=window.name,
            scope="tier" if key_id is None else "key",
            key_id=key_id,
            of=window.of,
            seconds=window.seconds,
            route=window.route,
            models=list(window.models),
            lane=lane_of_window(window),
            limit=shown(window.limit),
            used=None if level is None else shown(level.used),
            left=None if level is None else shown(max(0, window.limit - level.used)),
            resets_at=now + timedelta(milliseconds=level.reset_ms) if level is not None and used else None,
        )


class ConcurrencyReply(Reply):
    """Calls at once."""

    limit: int | None = Field(description="How many may run; null: no limit.", examples=[4])
    used: int | None = Field(description="How many run; null: it cannot be read now.", examples=[1])


class BudgetReply(Reply):
    """Money that may be spent in a period, whatever the wallet holds."""

    of: CapOf = Field(
        description="A key's, a member's share of a shared wallet, or what the house pays for a user's tasks."
    )
    task: str | None = Field(description="The rule whose calls the house pays.", examples=[None])
    limit: UsdOut = Field(description="USD of each period.", examples=["20.0000"])
    spent: UsdOut = Field(description="Spent in this one.", examples=["4.2000"])
    held: UsdOut = Field(description="Set aside for calls under way.", examples=["0.0000"])
    left: UsdOut = Field(description="What is left of it.", examples=["15.8000"])
    resets_at: Instant | None = Field(description="When it starts anew; null: never.")

    @classmethod
    def of_cap(cls, cap: Cap, state: BudgetState) -> BudgetReply:
        """A budget in the period that runs."""
        left = max(0, cap.limit - state.spent - state.held)
        return cls(
            of=cap.of,
            task=cap.task or None,
            limit=cap.limit,
            spent=state.spent,
            held=state.held,
            left=left,
            resets_at=cap.ends_at,
        )


class LimitsReply(Reply):
    """How fast a user may go, and what is left."""

    tier: str = Field(description="The tier in force.", examples=["pro"])
    user_id: UUID = Field(description="Whose limits.", examples=[ID])
    windows: list[LimitReply] = Field(description="The tier's, then those of the user's live keys.")
    windows_beside: list[LimitReply] = Field(
        description="Those that count tasks and embeddings beside the ones of requests; cleared with them."
    )
    concurrency: ConcurrencyReply = Field(description="How many calls run, of how many that may.")
    concurrency_beside: dict[Lane, int | None] = Field(
        description="How many tasks and embeddings may run beside them; null: no limit.",
        examples=[{"tasks": 16, "embeddings": 8}],
    )
    budgets: list[BudgetReply] = Field(
        description="The share of a group's wallet, where it is bounded; what the house pays for tasks."
    )
