"""Groups over HTTP: made, changed by who has seen them, retired; what they mean to their members."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.world import audited, grouped, path_of, pointers
from tests.house import Admin, Farebox, until

NOBODY = str(uuid4())
MONTHLY = {"usd": "5.00", "every": "month", "zone": "Asia/Kolkata"}
CAP = {"amount": "2.00", "every": "week", "anchor": 1}


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def made(admin: Admin, **fields: Any) -> Any:
    return await admin.made("/groups", {"name": uuid4().hex, **fields})


async def test_a_group_is_made_with_what_is_said_and_the_usual_rest(admin: Admin) -> None:
    name = uuid4().hex
    answer = await admin.post("/groups", {"name": name, "allowance": MONTHLY, "shared": True, "member_cap": CAP})
    group = answer.json()
    assert (answer.status, answer.headers["etag"]) == (201, '"1"')
    assert answer.headers["location"] == f"/admin/api/v1/groups/{group['id']}"
    assert (group["name"], group["tier"], group["priority"], group["shared"]) == (name, None, 100, True)
    assert (group["allowance"]["usd"], group["allowance"]["zone"]) == ("5.0000", "Asia/Kolkata")
    assert group["member_cap"] == {"amount": "2.0000", "every": "week", "zone": "UTC", "anchor": 1}
    assert (group["members"], group["version"], group["retired_at"]) == (0, 1, None)


async def test_a_shared_wallet_shows_what_its_period_gave(admin: Admin) -> None:
    group = await made(admin, allowance=MONTHLY, shared=True)
    shown = await admin.read(f"/groups/{group['id']}")
    assert (shown["balance"]["available"], shown["balance"]["by_kind"]) == ("5.0000", {"plan": "5.0000"})
    apart = await made(admin, allowance=MONTHLY)
    assert (await admin.read(f"/groups/{apart['id']}"))["balance"]["available"] == "0.0000"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"name": ""}, ["#/name"]),
        ({"tier": "gold"}, ["#/tier"]),
        ({"priority": -1}, ["#/priority"]),
        ({"priority": "1"}, ["#/priority"]),
        ({"shared": "yes"}, ["#/shared"]),
        ({"allowance": {"usd": "1", "tokens": 1}}, ["#/allowance"]),
        ({"allowance": {"usd": "1", "zone": "Mars"}}, ["#/allowance/zone"]),
        ({"member_cap": {"amount": "-1"}}, ["#/member_cap/amount"]),
        ({"colour": "blue"}, ["#/colour"]),
    ],
)
async def test_what_a_group_cannot_be_is_named(admin: Admin, fields: dict[str, Any], where: list[str]) -> None:
    assert pointers(await admin.post("/groups", {"name": uuid4().hex, **fields})) == where


async def test_a_groups_allowance_is_money(admin: Admin) -> None:
    answer = await admin.post("/groups", {"name": uuid4().hex, "allowance": {"tokens": 5}})
    assert (answer.status, answer.json()["detail"]) == (422, "a group's allowance is money, not tokens")


async def test_two_groups_in_force_never_have_one_name(admin: Admin) -> None:
    first, second = await made(admin), await made(admin)
    assert (await admin.post("/groups", {"name": first["name"]})).status == 409
    assert (await admin.patch(f"/groups/{second['id']}", {"name": first["name"]}, match='"1"')).status == 409
    assert (await admin.delete(f"/groups/{first['id']}", match='"1"')).status == 204
    assert (await admin.post("/groups", {"name": first["name"]})).status == 201


async def test_groups_are_listed_by_name_page_by_page(admin: Admin) -> None:
    mark = uuid4().hex
    groups = [await made(admin, name=f"{mark} {name}") for name in "cab"]
    await admin.delete(f"/groups/{groups[2]['id']}", match='"1"')
    first = await admin.read("/groups", search=mark.upper(), limit=1)
    rest = await admin.read("/groups", search=mark, cursor=first["next_cursor"])
    assert [each["name"][-1] for each in first["data"] + rest["data"]] == ["a", "c"]
    every = await admin.read("/groups", search=mark, include_retired="true")
    assert [each["retired_at"] is None for each in every["data"]] == [True, False, True]
    assert (await admin.get("/groups", search=mark, format="csv")).body.count(b"\r\n") == 3


async def test_a_group_is_changed_by_who_has_seen_it(admin: Admin) -> None:
    group = await made(admin, tier="pro", allowance=MONTHLY)
    path = f"/groups/{group['id']}"
    assert (await admin.patch(path, {"priority": 5})).status == 428
    changed = await admin.patch(path, {"priority": 5, "tier": None}, match='"1"')
    assert (changed.status, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["priority"], changed.json()["tier"], changed.json()["allowance"]["usd"]) == (
        5,
        None,
        "5.0000",
    )
    stale = await admin.patch(path, {"priority": 6}, match='"1"')
    assert (stale.status, stale.json()["type"]) == (409, "urn:farebox:problem:stale-write")
    assert (await admin.patch(path, {"allowance": None}, match='"2"')).json()["allowance"] is None
    assert pointers(await admin.patch(path, {"name": None}, match='"3"')) == ["#/name"]
    (last, *_) = await audited(admin, target_type="group", target_id=group["id"])
    assert (last["action"], last["actor"], last["after"]) == ("group.change", "admin-key", {"allowance": None})


async def test_a_retired_group_gives_nothing_and_stays_to_be_seen(admin: Admin, module_farebox: Farebox) -> None:
    caller = await module_farebox.caller(tier="pro", usd="0")
    group = await grouped(module_farebox, caller.user.id, name=uuid4().hex, shared=True, allowance=MONTHLY)
    assert (await admin.read(path_of(caller)))["in_force"]["paid_by"] == group["id"]
    assert (await admin.delete(f"/groups/{group['id']}")).status == 428
    assert (await admin.delete(f"/groups/{group['id']}", match='"1"')).status == 204

    async def own_wallet() -> bool:
        return (await admin.read(path_of(caller)))["in_force"]["paid_by"] is None

    await until(own_wallet)
    shown = await admin.read(f"/groups/{group['id']}")
    assert shown["retired_at"] is not None and shown["balance"] is None and shown["members"] == 1
    assert (await admin.patch(f"/groups/{group['id']}", {"priority": 1}, match='"2"')).status == 404


async def test_a_group_that_is_not_there_is_told_like_a_malformed_one(admin: Admin) -> None:
    told = []
    for which in (NOBODY, "x"):
        for path in ("", "/members", "/usage", "/credits", "/ledger", "/grants"):
            told.append((await admin.get(f"/groups/{which}{path}")).json() | {"instance": ""})
    assert all(each == told[0] for each in told) and told[0]["status"] == 404


async def test_support_sees_groups_and_changes_none(module_support: Admin, admin: Admin) -> None:
    group = await made(admin)
    assert (await module_support.get(f"/groups/{group['id']}")).status == 200
    assert (await module_support.post("/groups", {"name": "x"})).status == 403
    assert (await module_support.patch(f"/groups/{group['id']}", {"priority": 1}, match='"1"')).status == 403
    assert (await module_support.delete(f"/groups/{group['id']}", match='"1"')).status == 403
