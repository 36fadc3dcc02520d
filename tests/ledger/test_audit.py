"""The audit chain: what is appended verifies, from many writers at once; what was changed or taken out is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.audit import ORIGIN, SYSTEM, Actor, Change, append, check, driver, link
from tests.ledger.till import Till

_OWNER = Actor("ann@example.org", "owner", "127.0.0.1", uuid4())


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[Any]:
    async with engine.begin() as connection:
        yield await driver(connection)


async def _append(engine: AsyncEngine, *changes: Change, by: Actor = _OWNER) -> None:
    async with _transaction(engine) as connection:
        await append(connection, by, *changes)


async def _check(engine: AsyncEngine) -> tuple[int, list[str]]:
    async with _transaction(engine) as connection:
        return await check(connection)


def _change(n: int = 0) -> Change:
    return Change("user.tier", "user", str(uuid4()), {"tier": "free"}, {"tier": "pro", "n": n})


async def test_an_empty_chain_holds(engine: AsyncEngine) -> None:
    assert await _check(engine) == (0, [])


async def test_each_change_is_kept_with_who_made_it_and_from_where(engine: AsyncEngine, till: Till) -> None:
    await _append(engine, _change(), Change("key.revoke", "key", "k"))
    await _append(engine, Change("tier.due", "tier", "pro"), by=SYSTEM)
    rows = await till.sql("SELECT *, after::text AS told FROM audit ORDER BY seq")
    assert [(row["seq"], row["actor"], row["role"], row["action"]) for row in rows] == [
        (1, "ann@example.org", "owner", "user.tier"),
        (2, "ann@example.org", "owner", "key.revoke"),
        (3, "system", "", "tier.due"),
    ]
    assert rows[0]["request_id"] == _OWNER.request_id and rows[0]["address"] == "127.0.0.1"
    assert rows[0]["told"] == '{"n": 0, "tier": "pro"}' and rows[1]["told"] is None
    assert rows[0]["previous"] == ORIGIN and rows[2]["previous"] == rows[1]["hash"]
    assert await _check(engine) == (3, [])


async def test_nothing_to_say_says_nothing(engine: AsyncEngine) -> None:
    await _append(engine)
    assert await _check(engine) == (0, [])


async def test_a_change_that_is_rolled_back_leaves_no_gap(engine: AsyncEngine) -> None:
    await _append(engine, _change())
    with pytest.raises(ZeroDivisionError):
        async with _transaction(engine) as connection:
            await append(connection, _OWNER, _change())
            raise ZeroDivisionError
    await _append(engine, _change())
    assert await _check(engine) == (2, [])


async def test_many_writers_at_once_leave_no_gap(engine: AsyncEngine, till: Till) -> None:
    await asyncio.gather(*(_append(engine, *[_change(n)] * (n % 3 + 1)) for n in range(32)))
    expected = sum(n % 3 + 1 for n in range(32))
    assert await _check(engine) == (expected, [])
    assert await till.value("SELECT max(seq) FROM audit") == expected
    assert await till.value("SELECT count(*) FROM (SELECT lag(at) OVER (ORDER BY seq) > at AS back FROM audit) q "
                            "WHERE back") == 0  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE audit SET actor = 'bob' WHERE seq = 2", "audit row 2 was changed"),
        ('UPDATE audit SET after = \'{"tier": "vip"}\' WHERE seq = 3', "audit row 3 was changed"),
        ("UPDATE audit SET before = NULL WHERE seq = 1", "audit row 1 was changed"),
        ("UPDATE audit SET at = at - interval '1 hour' WHERE seq = 4", "audit row 4 was changed"),
        ("UPDATE audit SET hash = sha256('forged') WHERE seq = 2", "audit row 3 does not follow the one before it"),
        ("DELETE FROM audit WHERE seq = 1", "audit row 1 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "audit row 3 is missing"),
        ("DELETE FROM audit WHERE seq = 4", "the chain ends at row 3, and not where its head says"),
        ("DELETE FROM audit", "the chain ends at row 0, and not where its head says"),
        ("UPDATE audit SET seq = 9 WHERE seq = 4", "audit row 4 is missing"),
        ("DELETE FROM audit_head", "the chain ends at row 4, and not where its head says"),
    ],
)
async def test_what_was_changed_or_taken_out_is_found(engine: AsyncEngine, till: Till, damage: str, found: str) -> None:
    for n in range(4):
        await _append(engine, _change(n))
    await till.sql("ALTER TABLE audit DISABLE TRIGGER ALL")
    await till.sql(damage)
    await till.sql("ALTER TABLE audit ENABLE TRIGGER ALL")
    assert found in (await _check(engine))[1]
    assert await till.broken() == ["I9"]


@pytest.mark.parametrize("how", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_database_refuses_to_change_the_chain(engine: AsyncEngine, till: Till, how: str) -> None:
    await _append(engine, _change())
    with pytest.raises(Exception, match="append-only"):
        await till.sql(how)


_TEXTS = st.text(max_size=8)
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_STORED: list[Any] = [
    {"float": 1.0, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 1 / 3, "minus": -0.0, "e": 1e16},
    {"big": 2**63, "bigger": 10**30, "zero": 0, "list": [1, [2.5, None], True], "nested": {"b": 1, "a": {"ü": "☃"}}},
    {"nul": "a\0b", "nul\0key": 1, "quote": '"\\\u2028', "id": uuid4(), "at": datetime(2026, 2, 28, 1, tzinfo=UTC)},
    ["no", "object"], "text", 7, 0.1, True, {}, [],
]  # fmt: skip


@pytest.mark.parametrize("value", _STORED, ids=range(len(_STORED)))
async def test_whatever_json_can_say_verifies_as_the_database_gives_it_back(engine: AsyncEngine, value: Any) -> None:
    await _append(engine, Change("a", "b", "c\0", value, value), by=Actor("n\0", "r", "\0", None))
    assert await _check(engine) == (1, [])


@given(_JSON)
def test_a_hash_does_not_depend_on_how_its_json_is_written(value: Any) -> None:
    row = {
        "seq": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "actor": "a", "role": "", "address": "", "request_id": None,
        "action": "x", "target_type": "t", "target_id": "i", "before": None,
    }  # fmt: skip
    tight = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    loose = json.dumps(value, indent=3, sort_keys=True)
    assert link(ORIGIN, {**row, "after": tight}) == link(ORIGIN, {**row, "after": loose})
    assert link(ORIGIN, {**row, "after": tight}) != link(ORIGIN[:-1] + b"\1", {**row, "after": tight})


async def test_a_change_outside_a_transaction_is_refused(engine: AsyncEngine) -> None:
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        with pytest.raises(RuntimeError, match="inside the transaction"):
            await append(connection, _OWNER, _change())
    assert await _check(engine) == (0, [])
