"""The audit over HTTP."""

from __future__ import annotations

import csv
import io

import pytest
from sqlalchemy import text

from ledger.audit import Actor, Change, append, driver
from tests.house import Admin, Farebox

ROWS = [("ada", "user.tier", "user", "u1"), ("ada", "tier.change", "tier", "pro"), ("bob", "user.tier", "user", "u2")]


@pytest.fixture
async def chain(farebox: Farebox) -> Admin:
    """A chain of three."""
    async with farebox.engine.begin() as connection:
        for actor, action, kind, target in ROWS:
            change = Change(action, kind, target, {"tier": "free"}, {"tier": "=pro"})
            await append(await driver(connection), Actor(actor, "admin", "192.0.2.1"), change)
    return farebox.admin


async def test_changes_come_newest_first_with_before_and_after(chain: Admin) -> None:
    page = await chain.read("/audit")
    assert [row["seq"] for row in page["data"]] == [3, 2, 1]
    newest = page["data"][0]
    assert (newest["actor"], newest["role"], newest["address"]) == ("bob", "admin", "192.0.2.1")
    assert (newest["before"], newest["after"]) == ({"tier": "free"}, {"tier": "=pro"})


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"actor": "ada"}, [2, 1]),
        ({"action": "user.tier"}, [3, 1]),
        ({"target_type": "user", "target_id": "u1"}, [1]),
        ({"actor": "ada", "action": "user.tier"}, [1]),
        ({"actor": "nobody"}, []),
        ({"since": "2020-01-01T00:00:00Z"}, [3, 2, 1]),
        ({"until": "2020-01-01T00:00:00Z"}, []),
    ],
    ids=str,
)
async def test_changes_are_found_by_who_what_and_when(chain: Admin, query: dict[str, str], found: list[int]) -> None:
    assert [row["seq"] for row in (await chain.read("/audit", **query))["data"]] == found


async def test_a_change_is_between_two_instants(farebox: Farebox, chain: Admin) -> None:
    (row,) = await farebox.rows(
        "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ') AS at FROM audit WHERE seq = 2"
    )
    since, until = (await chain.read("/audit", since=row["at"])), (await chain.read("/audit", until=row["at"]))
    assert 2 in [each["seq"] for each in since["data"]] and 2 not in [each["seq"] for each in until["data"]]


async def test_pages_are_the_whole_chain(chain: Admin) -> None:
    first = await chain.read("/audit", limit=2)
    second = await chain.read("/audit", limit=2, cursor=first["next_cursor"])
    assert [row["seq"] for row in first["data"] + second["data"]] == [3, 2, 1] and second["next_cursor"] is None


async def test_the_chain_is_exported_without_a_formula(chain: Admin) -> None:
    answer = await chain.get("/audit", format="csv", actor="ada")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [(row["seq"], row["after"]) for row in rows] == [("2", '{"tier":"=pro"}'), ("1", '{"tier":"=pro"}')]


async def test_a_whole_chain_holds(chain: Admin) -> None:
    assert await chain.read("/audit/verify") == {"holds": True, "looked_at": 3, "broken": []}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "row 2 was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "ends at row 2"),
    ],
)
async def test_a_chain_that_was_touched_does_not(farebox: Farebox, chain: Admin, spoil: str, says: str) -> None:
    async with farebox.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        await connection.execute(text(spoil))
    checked = await chain.read("/audit/verify")
    assert not checked["holds"] and says in " ".join(checked["broken"])
