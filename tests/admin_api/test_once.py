"""Idempotency keys in the database."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.access import Caller, Role
from admin_api.once import Claim, Once, Stored
from admin_api.problems import Problem
from ledger.audit import Actor

PEPPER = b"p" * 32
REPLY = Stored(201, [("location", "/x"), ("etag", '"1"')], b'{"key":"sk-fb-secret"}')


@pytest.fixture
def once(engine: AsyncEngine) -> Once:
    return Once(engine, PEPPER)


def caller(role: Role = "owner", admin: int | None = None) -> Caller:
    return Caller(Actor("x", role), role, UUID(int=admin) if admin else None)


async def refused(once: Once, claim: Claim) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        await once.take(claim)
    return caught.value.status, caught.value.code


async def run(engine: AsyncEngine, statement: str) -> list[tuple[object, ...]]:
    async with engine.begin() as connection:
        result = await connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


async def test_what_was_told_is_told_again(once: Once) -> None:
    claim = once.claim(caller(), "k", b"request")
    assert await once.take(claim) is None
    await once.store(claim, REPLY)
    assert await once.take(claim) == REPLY


async def test_one_of_many_at_once_does_the_work(once: Once) -> None:
    claim = once.claim(caller(), "k", b"request")
    results = await asyncio.gather(*(once.take(claim) for _ in range(12)), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert all(result is None or (isinstance(result, Problem) and result.status == 409) for result in results)


async def test_a_key_is_good_for_one_request(once: Once) -> None:
    claim, other = (once.claim(caller(), "k", request) for request in (b"one", b"two"))
    await once.take(claim)
    assert await refused(once, other) == (422, "key-reused")
    await once.store(claim, REPLY)
    assert await refused(once, other) == (422, "key-reused")


async def test_keys_of_two_callers_or_roles_are_kept_apart(once: Once) -> None:
    callers = (caller(), caller(admin=1), caller(admin=2), caller("support", admin=1))
    for each in callers:
        claim = once.claim(each, "k", f"request {each}".encode())
        assert await once.take(claim) is None


async def test_a_freed_key_may_be_used_for_anything(once: Once) -> None:
    claim = once.claim(caller(), "k", b"one")
    await once.take(claim)
    await once.free(claim)
    assert await once.take(once.claim(caller(), "k", b"two")) is None


async def test_what_was_stored_is_not_freed(once: Once) -> None:
    claim = once.claim(caller(), "k", b"one")
    await once.take(claim)
    await once.store(claim, REPLY)
    await once.free(claim)
    assert await once.take(claim) == REPLY


async def test_after_a_day_a_key_is_forgotten(engine: AsyncEngine, once: Once) -> None:
    claim = once.claim(caller(), "k", b"one")
    await once.take(claim)
    await once.store(claim, REPLY)
    await run(engine, "UPDATE idempotency_keys SET at = at - interval '25 hours'")
    assert await once.take(once.claim(caller(), "k", b"two")) is None
    await run(engine, "UPDATE idempotency_keys SET at = at - interval '25 hours'")
    await once.sweep()
    assert await run(engine, "SELECT * FROM idempotency_keys") == []


async def test_a_request_whose_process_died_is_taken_over(engine: AsyncEngine, once: Once) -> None:
    claim = once.claim(caller(), "k", b"one")
    await once.take(claim)
    await run(engine, "UPDATE idempotency_keys SET at = at - interval '119 seconds'")
    assert (await refused(once, claim))[0] == 409
    await run(engine, "UPDATE idempotency_keys SET at = at - interval '3 seconds'")
    assert await once.take(claim) is None


async def test_nothing_of_request_or_reply_can_be_read_in_the_database(engine: AsyncEngine, once: Once) -> None:
    claim = once.claim(caller(), "k", b"hunter2")
    await once.take(claim)
    await once.store(claim, REPLY)
    ((row,),) = await run(engine, "SELECT idempotency_keys::text FROM idempotency_keys")
    assert isinstance(row, str)
    for secret in (b"sk-fb-secret", b"hunter2"):
        assert secret.hex() not in row and secret.decode() not in row
    assert once.claim(caller(), "k", b"x").digest != Once(engine, b"q" * 32).claim(caller(), "k", b"x").digest


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 201, "a\n"])
async def test_what_cannot_be_a_key_is_refused(once: Once, key: str) -> None:
    with pytest.raises(Problem) as caught:
        once.claim(caller(), key, b"")
    assert caught.value.status == 422
