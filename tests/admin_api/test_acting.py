"""Acting as a user: short, marked, on record under both; and ending every session of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.conftest import logged_in
from tests.admin_api.world import audited, path_of, pointers, written
from tests.house import Admin, Caller, Farebox, until

NOBODY = str(uuid4())


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


@pytest.fixture(scope="module")
async def ada(module_farebox: Farebox) -> Admin:
    """An admin with an account."""
    return await logged_in(module_farebox.admin, "admin")


@pytest.fixture
async def caller(module_farebox: Farebox) -> Caller:
    return await module_farebox.caller(tier="pro")


async def acting(admin: Admin, caller: Caller, **fields: Any) -> Any:
    return await admin.made(f"{path_of(caller)}/impersonate", {"reason": "ticket 7", **fields})


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_who_acts_calls_as_the_user_and_the_user_pays(
    ada: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    made = await acting(ada, caller, minutes=5)
    ends = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < ends <= timedelta(minutes=5)
    assert (await module_farebox.get("/v1/account", bearing(made["key"]))).json()["id"] == str(caller.user.id)
    assert (await module_farebox.chat(bearing(made["key"]))).status == 200
    (charge,) = await module_farebox.charges(caller.user.id)
    assert str(charge["key_id"]) == made["id"] and charge["wallet_id"] == caller.user.wallet_id


async def test_each_time_is_listed_with_who_why_and_what_was_spent(
    ada: Admin, admin: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    first = await acting(ada, caller)
    second = await acting(admin, caller, reason="ticket 8")
    for _ in range(2):
        assert (await module_farebox.chat(bearing(first["key"]))).status == 200
    spent = sum(row["amount"] for row in await module_farebox.charges(caller.user.id))
    later, earlier = (await admin.read(f"{path_of(caller)}/impersonations"))["data"]
    assert (later["id"], later["acted_by"], later["reason"], later["calls"]) == (
        second["id"],
        "admin-key",
        "ticket 8",
        0,
    )
    assert earlier["acted_by"].startswith("admin-") and earlier["state"] == "active"
    assert earlier["calls"] == 2 and round(float(earlier["amount"]) * 1e9) == spent > 0
    page = await admin.read(f"{path_of(caller)}/impersonations", limit=1)
    rest = await admin.read(f"{path_of(caller)}/impersonations", cursor=page["next_cursor"])
    assert [each["id"] for each in page["data"] + rest["data"]] == [second["id"], first["id"]]


async def test_it_is_on_record_under_the_user_and_under_the_admin(ada: Admin, admin: Admin, caller: Caller) -> None:
    made = await acting(ada, caller)
    me = (await ada.read("/auth/me"))["admin"]
    (as_user,) = await audited(admin, action="user.impersonate", target_id=caller.user.id)
    assert (as_user["actor"], as_user["after"]["admin"], as_user["after"]["key"]) == (me["email"], me["id"], made["id"])
    assert as_user["after"]["reason"] == "ticket 7"
    as_admin = await audited(admin, target_type="admin", target_id=me["id"], action="admin.impersonate")
    assert as_admin[0]["after"]["user"] == str(caller.user.id) and as_admin[0]["actor"] == me["email"]
    assert made["key"][-49:] not in str(await admin.read("/audit"))


async def test_it_ends_when_it_is_told_to(ada: Admin, admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    made = await acting(ada, caller)
    path = f"{path_of(caller)}/impersonations/{made['id']}"
    assert (await module_farebox.chat(bearing(made["key"]))).status == 200
    assert (await admin.delete(path)).status == 204

    async def refused() -> bool:
        return (await module_farebox.chat(bearing(made["key"]))).status == 401

    await until(refused)
    assert (await admin.delete(path)).status == 404
    assert (await admin.read(f"{path_of(caller)}/impersonations"))["data"][0]["state"] == "revoked"
    (ended,) = await audited(admin, action="user.impersonate_end", target_id=caller.user.id)
    assert (ended["actor"], ended["before"]["key"]) == ("admin-key", made["id"])


async def test_it_ends_by_itself(ada: Admin, module_farebox: Farebox, caller: Caller) -> None:
    made = await acting(ada, caller)
    statement = "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = :id"
    await written(module_farebox, statement, id=made["id"])

    async def expired() -> bool:
        answer = await module_farebox.chat(bearing(made["key"]))
        return answer.status == 401 and answer.error["code"] == "key_expired"

    await until(expired)


async def test_an_ordinary_key_is_not_ended_by_this(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    key = await admin.made(f"{path_of(caller)}/keys", {"name": "own"})
    assert (await admin.delete(f"{path_of(caller)}/impersonations/{key['id']}")).status == 404
    other = await module_farebox.caller()
    made = await acting(admin, caller)
    assert (await admin.delete(f"{path_of(other)}/impersonations/{made['id']}")).status == 404
    assert (await module_farebox.chat(bearing(made["key"]))).status == 200


async def test_a_key_one_acts_by_is_neither_lengthened_nor_rotated(admin: Admin, caller: Caller) -> None:
    made = await acting(admin, caller)
    assert (await admin.patch(f"/keys/{made['id']}", {"expires_at": None})).status == 409
    assert (await admin.post(f"/keys/{made['id']}/rotate")).status == 409


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"minutes": 61, "reason": "x"}, ["#/minutes"]),
        ({"minutes": 0, "reason": "x"}, ["#/minutes"]),
        ({"minutes": 5}, ["#/reason"]),
        ({"minutes": 5, "reason": ""}, ["#/reason"]),
    ],
)
async def test_it_is_for_an_hour_at_most_and_for_a_reason(
    admin: Admin, caller: Caller, body: dict[str, Any], where: list[str]
) -> None:
    assert pointers(await admin.post(f"{path_of(caller)}/impersonate", body)) == where


async def test_nobody_acts_as_who_may_not_call(admin: Admin, caller: Caller) -> None:
    await admin.patch(path_of(caller), {"status": "suspended"})
    answer = await admin.post(f"{path_of(caller)}/impersonate", {"reason": "x"})
    assert (answer.status, "suspended" in answer.json()["detail"]) == (409, True)
    assert (await admin.post(f"/users/{NOBODY}/impersonate", {"reason": "x"})).status == 404


async def test_support_acts_as_nobody(module_support: Admin, caller: Caller) -> None:
    assert (await module_support.post(f"{path_of(caller)}/impersonate", {"reason": "x"})).status == 403
    assert (await module_support.get(f"{path_of(caller)}/impersonations")).status == 200
    assert (await module_support.delete(f"{path_of(caller)}/impersonations/{NOBODY}")).status == 403
    assert (await module_support.post(f"{path_of(caller)}/sessions/revoke")).status == 403


async def test_ending_a_users_sessions_ends_all_its_keys(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    await admin.made(f"{path_of(caller)}/keys", {"name": "second"})
    assert (await module_farebox.chat(caller)).status == 200
    revoked = await admin.made(f"{path_of(caller)}/sessions/revoke")
    assert revoked["keys_revoked"] == 2
    assert abs(datetime.fromisoformat(revoked["sessions_from"]) - datetime.now(UTC)) < timedelta(minutes=1)

    async def refused() -> bool:
        return (await module_farebox.chat(caller)).status == 401

    await until(refused)
    (row,) = await audited(admin, action="user.sessions", target_id=caller.user.id)
    assert len(row["after"]["keys_revoked"]) == 2
