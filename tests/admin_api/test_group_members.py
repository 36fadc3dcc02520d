"""Members over HTTP: one by one or many at once, all of them or none; what each used and has left."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.world import audited, grouped, path_of, pointers, rolled
from tests.house import Admin, Caller, Farebox

NOBODY = str(uuid4())


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def members(admin: Admin, group: Any) -> list[str]:
    return [each["user_id"] for each in (await admin.read(f"/groups/{group['id']}/members"))["data"]]


async def people(admin: Admin, count: int) -> list[str]:
    return sorted([(await admin.made("/users", {"name": str(number)}))["id"] for number in range(count)])


async def test_a_member_comes_and_goes(admin: Admin) -> None:
    group, (user,) = await admin.made("/groups", {"name": uuid4().hex}), await people(admin, 1)
    path = f"/groups/{group['id']}/members/{user}"
    assert [(await admin.put(path)).status for _ in range(2)] == [204, 204]
    assert await members(admin, group) == [user]
    assert (await admin.read(f"/users/{user}"))["updated_at"]
    assert [(await admin.delete(path)).status for _ in range(2)] == [204, 404]
    assert await members(admin, group) == []
    actions = [each["action"] for each in await audited(admin, target_id=group["id"])]
    assert actions == ["group.remove_member", "group.add_member", "group.create"]


async def test_many_come_at_once_each_on_record(admin: Admin) -> None:
    group, users = await admin.made("/groups", {"name": uuid4().hex}), await people(admin, 4)
    path = f"/groups/{group['id']}/members"
    assert await admin.made(path, {"users": users[:3]}) == {"added": 3}
    assert await admin.made(path, {"users": [*users, users[0]]}) == {"added": 1}
    assert await members(admin, group) == users
    added = await audited(admin, action="group.add_member", target_id=group["id"])
    assert sorted(each["after"]["user"] for each in added) == users


async def test_all_of_them_come_or_none(admin: Admin) -> None:
    group, users = await admin.made("/groups", {"name": uuid4().hex}), await people(admin, 2)
    path = f"/groups/{group['id']}/members"
    answer = await admin.post(path, {"users": [users[0], NOBODY, users[1]]})
    assert pointers(answer) == ["#/users/1"] and await members(admin, group) == []
    await admin.delete(f"/users/{users[1]}")
    assert (await admin.post(path, {"users": users})).status == 409
    assert await members(admin, group) == []


async def test_how_many_come_at_once_is_bounded(admin: Admin) -> None:
    group = await admin.made("/groups", {"name": uuid4().hex})
    path = f"/groups/{group['id']}/members"
    for users in ([], [NOBODY] * 1001):
        assert pointers(await admin.post(path, {"users": users})) == ["#/users"]
    assert len(pointers(await admin.post(path, {"users": [str(uuid4()) for _ in range(1000)]}))) == 100


async def test_nobody_comes_to_no_group(admin: Admin) -> None:
    (user,) = await people(admin, 1)
    group = await admin.made("/groups", {"name": uuid4().hex})
    await admin.delete(f"/groups/{group['id']}", match='"1"')
    for which in (NOBODY, group["id"]):
        assert (await admin.put(f"/groups/{which}/members/{user}")).status == 404
        assert (await admin.post(f"/groups/{which}/members", {"users": [user]})).status == 404
    other = await admin.made("/groups", {"name": uuid4().hex})
    assert (await admin.put(f"/groups/{other['id']}/members/{NOBODY}")).status == 404


async def test_members_are_listed_page_by_page(admin: Admin) -> None:
    group, users = await admin.made("/groups", {"name": uuid4().hex}), await people(admin, 3)
    await admin.made(f"/groups/{group['id']}/members", {"users": users})
    first = await admin.read(f"/groups/{group['id']}/members", limit=2)
    rest = await admin.read(f"/groups/{group['id']}/members", cursor=first["next_cursor"])
    assert [each["user_id"] for each in first["data"] + rest["data"]] == users
    assert all(each["added_at"] for each in first["data"])


async def test_what_each_used_is_told_with_what_is_left_of_its_share(admin: Admin, module_farebox: Farebox) -> None:
    one, two = [await module_farebox.caller(tier="pro", usd="0") for _ in range(2)]
    cap = {"amount": "1.00", "every": "month"}
    group = await grouped(module_farebox, one.user.id, two.user.id, name=uuid4().hex, shared=True, member_cap=cap)
    await admin.made(f"/groups/{group['id']}/credits", {"kind": "payment", "amount": "9.00", "reason": "x"})
    for _ in range(2):
        assert (await module_farebox.chat(one)).status == 200
    await rolled(module_farebox)
    spent = sum(row["amount"] for row in await module_farebox.charges(one.user.id))
    usage = {each["user_id"]: each for each in (await admin.read(f"/groups/{group['id']}/usage"))["data"]}
    mine, other = usage[str(one.user.id)], usage[str(two.user.id)]
    assert (mine["this_month"]["calls"], other["this_month"]["calls"]) == (2, 0)
    assert nano(mine["this_month"]["amount"]) == nano(mine["cap"]["spent"]) == spent > 0
    assert nano(mine["cap"]["left"]) == 10**9 - spent
    assert (other["cap"]["spent"], other["cap"]["left"], other["cap"]["limit"]) == ("0.0000", "1.0000", "1.0000")
    csv = (await admin.get(f"/groups/{group['id']}/usage", format="csv")).body.decode()
    assert csv.splitlines()[0].startswith("user_id,email,name,this_month.calls")


async def test_where_no_share_is_bounded_none_is_told(admin: Admin, module_farebox: Farebox) -> None:
    caller: Caller = await module_farebox.caller(usd="0")
    group = await grouped(module_farebox, caller.user.id, name=uuid4().hex)
    (usage,) = (await admin.read(f"/groups/{group['id']}/usage"))["data"]
    assert usage["cap"] is None and (await admin.read(path_of(caller)))["groups"][0]["id"] == group["id"]


async def test_support_lets_nobody_in_or_out(module_support: Admin, admin: Admin) -> None:
    group, (user,) = await admin.made("/groups", {"name": uuid4().hex}), await people(admin, 1)
    path = f"/groups/{group['id']}/members"
    assert (await module_support.get(path)).status == 200
    assert (await module_support.post(path, {"users": [user]})).status == 403
    assert (await module_support.put(f"{path}/{user}")).status == 403
    assert (await module_support.delete(f"{path}/{user}")).status == 403


def nano(usd: str) -> int:
    return round(float(usd) * 1e9)
