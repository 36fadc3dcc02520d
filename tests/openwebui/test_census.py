"""To which groups somebody belongs."""

from __future__ import annotations

from openwebui.census import Census
from openwebui.shapes import Circle, Person


def test_who_belongs_to_a_group_belongs_to_those_above_it() -> None:
    circles = {"a": Circle("a", "a"), "b": Circle("b", "b", "a"), "c": Circle("c", "c", "b"), "d": Circle("d", "d")}
    census = Census({}, circles)
    assert census.circles_of(Person("u", group_ids=("c",))) == {"a", "b", "c"}
    assert census.circles_of(Person("u", group_ids=("a", "d"))) == {"a", "d"}
    assert census.circles_of(Person("u")) == frozenset()


def test_a_ring_of_groups_and_a_group_that_is_not_there_end() -> None:
    census = Census({}, {"a": Circle("a", "a", "b"), "b": Circle("b", "b", "a"), "c": Circle("c", "c", "gone")})
    assert census.circles_of(Person("u", group_ids=("a", "c", "nowhere"))) == {"a", "b", "c"}
