"""Keys over HTTP: shown once, limited by themselves, rotated with an overlap, gone when revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.world import path_of, pointers, written
from tests.house import Admin, Caller, Farebox, until

NOBODY = str(uuid4())


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


@pytest.fixture
async def caller(module_farebox: Farebox) -> Caller:
    return await module_farebox.caller(tier="pro")


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def key_of(admin: Admin, caller: Caller, **fields: Any) -> Any:
    return await admin.made(f"{path_of(caller)}/keys", {"name": "laptop", **fields})


async def test_a_key_is_shown_once_and_works(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    answer = await admin.post(f"{path_of(caller)}/keys", {"name": "laptop"})
    made = answer.json()
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.headers["location"] == f"/admin/api/v1/keys/{made['id']}"
    assert made["key"].startswith(made["begins"]) and made["user_id"] == str(caller.user.id)
    assert (made["state"], made["scopes"]) == ("active", ["inference", "account"])
    assert (await module_farebox.chat(bearing(made["key"]))).status == 200
    shown = await admin.read(f"/keys/{made['id']}")
    assert "key" not in shown and shown["budget"] is None
    for path in (f"/keys/{made['id']}", f"{path_of(caller)}/keys", "/audit"):
        assert made["key"][-49:] not in str(await admin.read(path))


async def test_a_creation_sent_again_shows_the_same_key(admin: Admin, caller: Caller) -> None:
    key = str(uuid4())
    first, again = [await admin.post(f"{path_of(caller)}/keys", {"name": "k"}, key=key) for _ in range(2)]
    assert first.json()["key"] == again.json()["key"]


async def test_a_key_keeps_to_its_own_models_windows_and_budget(
    admin: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    limits = {
        "models": ["small"],
        "windows": [{"limit": 2, "of": "requests", "per": "hour"}],
        "budget": {"amount": "5.00", "every": "month", "zone": "Asia/Kolkata"},
    }
    made = await key_of(admin, caller, limits=limits)
    assert made["limits"]["windows"][0]["limit"] == 2 and made["limits"]["budget"]["amount"] == "5.0000"
    key = bearing(made["key"])
    assert (await module_farebox.chat(key, model="large")).error["code"] == "model_not_allowed"
    assert [(await module_farebox.chat(key)).status for _ in range(3)] == [200, 200, 429]
    await module_farebox.settled()
    spent = sum(row["amount"] for row in await module_farebox.charges(caller.user.id))
    budget = (await admin.read(f"/keys/{made['id']}"))["budget"]
    assert spent > 0 and (budget["of"], budget["held"]) == ("key", "0.0000")
    assert round(float(budget["spent"]) * 1e9) == spent
    assert round(float(budget["left"]) * 1e9) == 5 * 10**9 - spent


async def test_a_key_for_one_thing_is_good_for_no_other(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    made = await key_of(admin, caller, scopes=["account"])
    assert (await module_farebox.chat(bearing(made["key"]))).error["code"] == "feature_not_allowed"
    assert (await module_farebox.get("/v1/account", bearing(made["key"]))).status == 200


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, ["#/name"]),
        ({"name": "k", "scopes": ["impersonation"]}, ["#/scopes/0"]),
        ({"name": "k", "scopes": ["forward_users"]}, ["#/scopes/0"]),
        ({"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, ["#/expires_at"]),
        ({"name": "k", "limits": {"windows": [{"limit": -1, "of": "requests", "per": "day"}]}}, ["#/limits/windows/0"]),
        ({"name": "k", "limits": {"budget": {"amount": "1", "every": "decade"}}}, ["#/limits/budget/every"]),
        ({"name": "k", "limits": {"budget": {"amount": "1", "every": "week", "anchor": 8}}}, ["#/limits/budget"]),
        ({"name": "k", "limits": {"budget": {"amount": "1", "zone": "Mars"}}}, ["#/limits/budget/zone"]),
        ({"name": "k", "limits": {"colour": "blue"}}, ["#/limits/colour"]),
    ],
)
async def test_what_a_key_cannot_be_is_named(
    admin: Admin, caller: Caller, body: dict[str, Any], where: list[str]
) -> None:
    assert pointers(await admin.post(f"{path_of(caller)}/keys", body)) == where


async def test_two_windows_that_would_be_one_are_refused(admin: Admin, caller: Caller) -> None:
    windows = [{"limit": number, "of": "requests", "per": "day"} for number in (1, 2)]
    answer = await admin.post(f"{path_of(caller)}/keys", {"name": "k", "limits": {"windows": windows}})
    assert pointers(answer) == ["#/limits"]


async def test_a_services_key_speaks_for_the_users_of_its_realm(admin: Admin, module_farebox: Farebox) -> None:
    realm = uuid4().hex
    made = await admin.made("/keys", {"name": "chat", "realm": realm, "plain_headers": True})
    assert (made["user_id"], made["realm"], made["plain_headers"]) == (None, realm, True)
    answer = await module_farebox.chat(bearing(made["key"]) | {"x-openwebui-user-id": "u-1"})
    assert answer.status == 200
    (user,) = await module_farebox.rows("SELECT id FROM users WHERE realm = :realm", realm=realm)
    assert len(await module_farebox.charges(user["id"])) == 1


async def test_a_services_key_for_charges_alone_calls_nothing(admin: Admin, module_farebox: Farebox) -> None:
    made = await admin.made("/keys", {"name": "batch", "realm": "chat", "scopes": ["charges"]})
    assert made["scopes"] == ["charges"]
    headers = bearing(made["key"]) | {"x-openwebui-user-id": "u-1"}
    assert (await module_farebox.chat(headers)).error["code"] == "feature_not_allowed"


async def test_a_service_needs_a_realm_and_something_to_do(admin: Admin) -> None:
    assert pointers(await admin.post("/keys", {"name": "k"})) == ["#/realm"]
    assert pointers(await admin.post("/keys", {"name": "k", "realm": "r", "scopes": []})) == ["#/scopes"]


async def test_services_and_users_keys_are_listed_apart(admin: Admin, caller: Caller) -> None:
    mark = uuid4().hex
    service = await admin.made("/keys", {"name": mark, "realm": "r"})
    own = await key_of(admin, caller, name=mark)

    async def listed(path: str, **query: Any) -> list[str]:
        return [each["id"] for each in (await admin.read(path, **query))["data"]]

    assert await listed("/keys", search=mark) == [service["id"]]
    assert await listed(f"{path_of(caller)}/keys", search=mark) == [own["id"]]
    assert len(await listed(f"{path_of(caller)}/keys")) == 2
    await admin.delete(f"/keys/{own['id']}")
    assert await listed(f"{path_of(caller)}/keys", search=mark, alive="true") == []


async def test_keys_are_listed_page_by_page(admin: Admin, caller: Caller) -> None:
    mark = uuid4().hex
    made = [(await key_of(admin, caller, name=f"{mark} {number}"))["id"] for number in range(3)]
    first = await admin.read(f"{path_of(caller)}/keys", search=mark, limit=2)
    rest = await admin.read(f"{path_of(caller)}/keys", search=mark, limit=2, cursor=first["next_cursor"])
    assert [each["id"] for each in first["data"] + rest["data"]] == made and rest["next_cursor"] is None


async def test_a_key_is_changed_in_what_is_named(admin: Admin, caller: Caller) -> None:
    made = await key_of(admin, caller, limits={"models": ["small"]}, expires_at="2199-01-01T00:00:00Z")
    path = f"/keys/{made['id']}"
    changed = (await admin.patch(path, {"name": "phone", "scopes": ["inference"]})).json()
    assert (changed["name"], changed["scopes"], changed["limits"]["models"]) == ("phone", ["inference"], ["small"])
    freed = (await admin.patch(path, {"limits": None, "expires_at": None})).json()
    assert (freed["limits"]["models"], freed["expires_at"], freed["name"]) == (["*"], None, "phone")
    assert pointers(await admin.patch(path, {"name": None})) == ["#/name"]
    assert pointers(await admin.patch(path, {"scopes": ["impersonation"]})) == ["#/scopes/0"]
    assert (await admin.patch(f"/keys/{NOBODY}", {"name": "x"})).status == 404


async def test_a_service_that_loses_what_it_speaks_by_is_refused(admin: Admin) -> None:
    made = await admin.made("/keys", {"name": "k", "realm": "r"})
    answer = await admin.patch(f"/keys/{made['id']}", {"scopes": ["inference"]})
    assert (answer.status, "needs a user" in answer.json()["detail"]) == (422, True)


async def test_a_revoked_key_is_refused_and_stays_on_record(
    admin: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    made = await key_of(admin, caller)
    assert (await module_farebox.chat(bearing(made["key"]))).status == 200
    assert (await admin.delete(f"/keys/{made['id']}")).status == 204
    assert (await admin.delete(f"/keys/{made['id']}")).status == 204

    async def refused() -> bool:
        answer = await module_farebox.chat(bearing(made["key"]))
        return answer.status == 401 and answer.error["code"] == "key_revoked"

    await until(refused)
    assert (await admin.read(f"/keys/{made['id']}"))["state"] == "revoked"
    assert (await admin.patch(f"/keys/{made['id']}", {"name": "x"})).status == 409
    assert (await admin.post(f"/keys/{made['id']}/rotate")).status == 409
    assert (await admin.delete(f"/keys/{NOBODY}")).status == 404


async def test_a_rotated_key_and_its_successor_are_both_good_for_the_overlap_and_count_as_one(
    admin: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    old = await key_of(admin, caller, limits={"windows": [{"limit": 2, "of": "requests", "per": "hour"}]})
    assert (await module_farebox.chat(bearing(old["key"]))).status == 200
    new = await admin.made(f"/keys/{old['id']}/rotate", {"overlap_s": 600})
    assert new["key"] != old["key"] and (new["rotated_from"], new["name"]) == (old["id"], "laptop")
    ends = datetime.fromisoformat((await admin.read(f"/keys/{old['id']}"))["expires_at"])
    assert timedelta(seconds=540) < ends - datetime.now(UTC) <= timedelta(seconds=600)
    assert (await module_farebox.chat(bearing(old["key"]))).status == 200
    assert (await module_farebox.chat(bearing(new["key"]))).status == 429
    statement = "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = :id"
    await written(module_farebox, statement, id=old["id"])

    async def ended() -> bool:
        return (await module_farebox.chat(bearing(old["key"]))).status == 401

    await until(ended)
    assert (await admin.read(f"/keys/{old['id']}"))["state"] == "expired"


@pytest.mark.parametrize("overlap", [-1, 30 * 86_400 + 1, "1", 1.5])
async def test_an_overlap_has_its_bounds(admin: Admin, caller: Caller, overlap: Any) -> None:
    made = await key_of(admin, caller)
    answer = await admin.post(f"/keys/{made['id']}/rotate", {"overlap_s": overlap})
    assert pointers(answer) == ["#/overlap_s"]


async def test_support_sees_keys_and_makes_none(module_support: Admin, admin: Admin, caller: Caller) -> None:
    made = await key_of(admin, caller)
    assert (await module_support.get(f"/keys/{made['id']}")).status == 200
    for answer in (
        await module_support.post(f"{path_of(caller)}/keys", {"name": "k"}),
        await module_support.post("/keys", {"name": "k", "realm": "r"}),
        await module_support.patch(f"/keys/{made['id']}", {"name": "k"}),
        await module_support.delete(f"/keys/{made['id']}"),
        await module_support.post(f"/keys/{made['id']}/rotate"),
    ):
        assert answer.status == 403


async def test_a_key_that_is_not_there_is_told_like_a_malformed_one(admin: Admin) -> None:
    told = [(await admin.get(f"/keys/{which}")).json() | {"instance": ""} for which in (NOBODY, "x")]
    assert told[0] == told[1] and told[0]["status"] == 404
