"""Which models are shown, and to whom: never to somebody who would be refused, where it can be helped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from openwebui.connection import Connection
from openwebui.models import (
    Seat,
    grants_differ,
    grants_for,
    row_wanted,
    shown_of,
    words_differ,
)
from openwebui.shapes import Grant, Row, Shown
from policies.tier import Tier
from tests.openwebui.fake import entry

FREE, PRO = Tier("free", models=("small",)), Tier("pro")
CONNECTION = Connection(1, "http://farebox/v1", "k", {"prefix_id": "fb"})
EVERYBODY = (Grant("user", "*"),)


def shown(model_id: str, index: int | None = 1, **more: Any) -> Shown:
    return msgspec.convert({**entry(model_id, 0), "urlIdx": index, **more}, Shown)


def test_what_is_shown_is_of_our_connection_and_not_hidden() -> None:
    listed = [
        shown("fb.small"),
        shown("other", 0),
        shown("fb.hidden", info={"meta": {"hidden": True}}),
        shown("tutor", None, preset=True, info={"base_model_id": "fb.large", "meta": {}}),
        shown("arena", None),
    ]
    assert shown_of(listed, CONNECTION) == {"small", "large"}


def test_what_everybody_may_use_is_shown_to_everybody() -> None:
    seats = [Seat("a", frozenset(), FREE), Seat("b", frozenset(), PRO)]
    assert grants_for("small", seats, {}, FREE) == EVERYBODY == grants_for("small", [], {}, FREE)


def test_what_newcomers_may_not_use_is_not_shown_to_everybody() -> None:
    assert grants_for("large", [Seat("a", frozenset(), PRO)], {}, FREE) == (Grant("user", "a"),)
    assert grants_for("large", [], {}, FREE) == ()


def test_a_group_is_granted_what_all_its_members_may_use() -> None:
    seats = [Seat("a", frozenset({"g"}), PRO), Seat("b", frozenset({"g", "h"}), PRO), Seat("c", frozenset({"h"}), FREE)]
    assert grants_for("large", seats, {"g": PRO, "h": None}, FREE) == (Grant("group", "g"),)


def test_whoever_may_more_than_the_group_is_granted_it_alone() -> None:
    seats = [Seat("a", frozenset({"g"}), FREE), Seat("b", frozenset({"g"}), PRO)]
    assert grants_for("large", seats, {"g": FREE}, FREE) == (Grant("user", "b"),)


def test_an_empty_group_goes_by_its_tier() -> None:
    assert grants_for("large", [], {"pro": PRO, "free": FREE, "none": None}, FREE) == (Grant("group", "pro"),)


def test_nobody_sees_what_is_refused() -> None:
    """Whatever groups there are: every grant leads to people who may use the model alone."""
    tiers = {"g": PRO, "h": FREE, "i": None}
    seats = [
        Seat(f"{n}", frozenset(c for c in "ghi" if n & (1 << "ghi".index(c))), PRO if n % 3 else FREE) for n in range(8)
    ]
    may = {seat.id for seat in seats if seat.tier.allows_model("large")}
    seen = set()
    for grant in grants_for("large", seats, tiers, FREE):
        if grant.principal_type == "user":
            seen.add(grant.principal_id)
        else:
            seen |= {seat.id for seat in seats if grant.principal_id in seat.circles}
    assert seen == may


def test_a_first_row_carries_what_the_connection_says() -> None:
    said = entry("fb.small", 1, name="Small", info={"meta": {"description": "Quick"}}, tags=[{"name": "free"}])
    model = msgspec.convert(said, Shown)
    wanted = row_wanted(model, None, EVERYBODY)
    assert (wanted["id"], wanted["name"], wanted["is_active"]) == ("fb.small", "Small", True)
    assert (wanted["meta"]["description"], wanted["meta"]["tags"]) == ("Quick", [{"name": "free"}])
    assert wanted["access_grants"] == [{"principal_type": "user", "principal_id": "*", "permission": "read"}]


@pytest.mark.parametrize(("there", "then"), [("Quick", "Slow"), (None, "Slow"), ("Their own words", "Their own words")])
def test_a_description_follows_until_somebody_writes_another(there: str | None, then: str) -> None:
    first = row_wanted(msgspec.convert(entry("m", 1, info={"meta": {"description": "Quick"}}), Shown), None, ())
    row = Row("m", "m", meta={**first["meta"], "description": there})
    later = msgspec.convert(entry("m", 1, info={"meta": {"description": "Slow"}}), Shown)
    wanted = row_wanted(later, row, ())
    assert wanted["meta"]["description"] == then
    assert words_differ(row, wanted)
    settled = Row("m", wanted["name"], meta=wanted["meta"])
    assert not words_differ(settled, row_wanted(later, settled, ()))


def test_only_grants_to_read_are_ours() -> None:
    write = Grant("group", "editors", "write")
    row = Row("m", "m", access_grants=(write, Grant("user", "x")))
    wanted = row_wanted(shown("m"), row, EVERYBODY)
    assert [tuple(each.values()) for each in wanted["access_grants"]] == [
        ("user", "*", "read"),
        ("group", "editors", "write"),
    ]
    assert grants_differ(row, wanted)
    assert not grants_differ(Row("m", "m", access_grants=(write, *EVERYBODY)), wanted)
