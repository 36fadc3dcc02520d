"""What the tests of people, keys and groups do to a running Farebox beside asking it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import text

from tests.house import Admin, Answer, Caller, Farebox, until


def pointers(answer: Answer) -> list[str]:
    """Where in the request a 422 finds fault."""
    assert answer.status == 422, answer.body
    return sorted(each.get("pointer") or each.get("parameter") or "" for each in answer.json()["errors"])


async def written(farebox: Farebox, statement: str, **values: Any) -> None:
    """A write into the database, past everybody."""
    async with farebox.engine.begin() as connection:
        await connection.execute(text(statement), values)


async def grouped(farebox: Farebox, *users: str | UUID, **fields: Any) -> dict[str, Any]:
    """A group of these users that the running process knows of."""
    group = await farebox.admin.made("/groups", fields)
    if users:
        await farebox.admin.made(f"/groups/{group['id']}/members", {"users": [str(each) for each in users]})
    await known(farebox, group["id"])
    return dict(group)


async def known(farebox: Farebox, group_id: str) -> None:
    """Wait until the running process has heard of a group."""

    async def heard() -> bool:
        return UUID(group_id) in farebox.run.gateway.parts.catalog().groups

    await until(heard)


async def rolled(farebox: Farebox) -> None:
    """Wait until every charge is counted in the roll-ups."""
    await farebox.settled()

    async def counted() -> bool:
        return not await farebox.rows("SELECT 1 FROM charges_to_roll LIMIT 1")

    await until(counted)


def path_of(caller: Caller) -> str:
    return f"/users/{caller.user.id}"


async def audited(admin: Admin, **query: Any) -> list[dict[str, Any]]:
    """The audit's rows, newest first."""
    return list((await admin.read("/audit", **query))["data"])
