"""A group as a value: its order among others, and what it refuses to be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from ledger.budget import Budget
from policies.group import Group, in_order
from policies.tier import Allowance


def group(name: str, **more: Any) -> Group:
    return Group(UUID(int=1), name, UUID(int=2), **more)


def test_groups_stand_in_the_order_of_their_priority_and_then_their_name() -> None:
    groups = [group("b"), group("a"), group("z", priority=1)]
    assert [each.name for each in in_order(groups)] == ["z", "a", "b"]


@pytest.mark.parametrize(
    ("name", "told", "why"),
    [
        ("", {}, "needs a name"),
        ("g", {"allowance": Allowance(1000, "tokens")}, "money, not tokens"),
        ("g", {"allowance": Allowance(1, anniversary=True), "shared": True}, "no anniversary"),
        ("g", {"member_cap": Budget(-1)}, "not be negative"),
        ("g", {"member_cap": Budget(1, "month", "Nowhere")}, "not a time zone"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(name: str, told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        group(name, **told)


def test_a_group_is_the_same_after_json() -> None:
    full = group("g", tier="pro", priority=1, allowance=Allowance(5), shared=True, member_cap=Budget(1, "month"))
    assert msgspec.json.decode(msgspec.json.encode(full), type=Group) == full
