"""How limits are shown: what is counted in its unit, and nothing guessed where nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from admin_api.limit_replies import BudgetReply, LimitReply
from ledger.money import NANO
from ledger.store import BudgetState
from policies.buckets import Level
from policies.caps import Cap
from policies.tier import Window

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_window_tells_what_is_used_and_left_in_its_unit() -> None:
    requests = LimitReply.of_window(Window(5, "requests", 60), None, Level(7, 1500), NOW)
    assert (requests.limit, requests.used, requests.left) == (5, 7, 0)
    assert requests.model_dump(mode="json")["resets_at"] == "2026-11-21T00:00:01.500000Z"
    cost = LimitReply.of_window(Window(NANO, "cost", 60), None, Level(NANO // 4, 1), NOW)
    assert (cost.limit, cost.used, cost.left) == ("1.0000", "0.2500", "0.7500")


def test_an_empty_window_is_all_back() -> None:
    assert LimitReply.of_window(Window(5, "requests", 60), None, Level(0, 0), NOW).resets_at is None


def test_what_cannot_be_read_is_not_told() -> None:
    unread = LimitReply.of_window(Window(5, "requests", 60), None, None, NOW)
    assert (unread.limit, unread.used, unread.left, unread.resets_at) == (5, None, None, None)


def test_a_keys_window_names_its_key() -> None:
    window = Window(5, "tokens", 60, "embeddings", ("small*",), "key:1")
    shown = LimitReply.of_window(window, UUID(int=1), None, NOW)
    assert (shown.scope, shown.key_id, shown.route, shown.models) == ("key", UUID(int=1), "embeddings", ["small*"])


def test_what_is_left_of_a_budget_is_never_below_zero() -> None:
    cap = Cap("member", UUID(int=1), 5, None)
    assert BudgetReply.of_cap(cap, BudgetState(2, 1)).left == 2
    # A limit that was lowered leaves more spent than there is.
    assert BudgetReply.of_cap(cap, BudgetState(9, 0)).left == 0
