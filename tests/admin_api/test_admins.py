"""Admins' accounts over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.admin_api.conftest import PASSWORD, Login
from tests.house import Admin, Answer, Farebox


def somebody(name: str, role: str = "support") -> dict[str, str]:
    return {"email": f"{name}@example.org", "role": role, "password": PASSWORD}


async def test_an_account_is_made_read_changed_and_deleted(admin: Admin) -> None:
    created = await admin.post("/admins", {**somebody("ada"), "name": "Ada"})
    made: dict[str, Any] = created.json()
    assert created.status == 201 and created.headers["location"] == f"/admin/api/v1/admins/{made['id']}"
    assert (made["email"], made["name"], made["role"], made["status"]) == (
        "ada@example.org",
        "Ada",
        "support",
        "active",
    )
    read = await admin.get(f"/admins/{made['id']}")
    assert read.json() == made and read.headers["etag"] == created.headers["etag"] == '"1"'
    changed = await admin.patch(f"/admins/{made['id']}", {"role": "admin"}, match='"1"')
    assert (changed.json()["role"], changed.json()["name"], changed.headers["etag"]) == ("admin", "Ada", '"2"')
    assert (await admin.delete(f"/admins/{made['id']}", match='"2"')).status == 204
    assert (await admin.get(f"/admins/{made['id']}")).status == 404
    assert (await admin.read("/admins"))["data"] == []
    actions = [row["action"] for row in (await admin.read("/audit", target_id=made["id"]))["data"]]
    assert actions == ["admin.delete", "admin.change", "admin.create"]


async def test_no_reply_and_no_record_has_a_password_or_a_hash(farebox: Farebox, admin: Admin) -> None:
    answers = [await admin.post("/admins", somebody("ada"), key="k")]
    made = answers[0].json()
    answers.append(await admin.patch(f"/admins/{made['id']}", {"password": "another good one"}, match='"1"'))
    answers += [await admin.get(path) for path in ("/admins", f"/admins/{made['id']}", "/audit", "/logs")]
    answers.append(await admin.get("/admins", format="csv"))
    assert not any(
        secret in answer.body for answer in answers for secret in (b"argon2", b"correct horse", b"another good")
    )
    for table in ("audit", "admin_logins", "idempotency_keys", "system_events"):
        rows = await farebox.rows(f"SELECT {table}::text AS row FROM {table}")
        assert not any(secret in row["row"] for row in rows for secret in ("argon2", "correct horse", "another good"))


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json()["type"]) == (status, f"urn:farebox:problem:{code}")


async def test_a_stale_write_is_refused_and_one_without_a_version_too(admin: Admin) -> None:
    path = f"/admins/{(await admin.made('/admins', somebody('ada')))['id']}"
    refused(await admin.patch(path, {"name": "x"}), 428, "precondition-required")
    refused(await admin.delete(path), 428, "precondition-required")
    await admin.patch(path, {"name": "x"}, match='"1"')
    refused(await admin.patch(path, {"name": "y"}, match='"1"'), 409, "stale-write")
    refused(await admin.delete(path, match='"1"'), 409, "stale-write")
    refused(await admin.patch(f"/admins/{UUID(int=1)}", {"name": "y"}, match='"1"'), 404, "not-found")


async def test_the_last_owner_stays_also_for_the_admin_key(admin: Admin) -> None:
    path = f"/admins/{(await admin.made('/admins', somebody('ada', 'owner')))['id']}"
    for answer in (
        await admin.delete(path, match='"1"'),
        await admin.patch(path, {"role": "admin"}, match='"1"'),
        await admin.patch(path, {"status": "suspended"}, match='"1"'),
    ):
        refused(answer, 409, "last-owner")
    await admin.made("/admins", somebody("bob", "owner"))
    assert (await admin.delete(path, match='"1"')).status == 204


async def test_an_address_is_taken_once(admin: Admin) -> None:
    await admin.made("/admins", somebody("ada"))
    bob = await admin.made("/admins", somebody("bob"))
    refused(await admin.post("/admins", somebody("ADA")), 409, "email-taken")
    refused(await admin.patch(f"/admins/{bob['id']}", {"email": "ada@example.org"}, match='"1"'), 409, "email-taken")


@pytest.mark.parametrize(
    ("news", "field"),
    [
        ({"role": "king"}, "#/role"),
        ({"password": "short"}, "#/password"),
        ({"password": "aaaaaaaaaaaaa"}, "#/password"),
        ({"password": "x" * 257}, "#/password"),
        ({"email": "nobody"}, "#/email"),
        ({"name": "two\nlines"}, "#/name"),
        ({"status": "deleted"}, "#/status"),
        ({"password_hash": "x"}, "#/password_hash"),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named(module_farebox: Farebox, news: dict[str, str], field: str) -> None:
    admin = module_farebox.admin
    found = (await admin.read("/admins", search="wrong@"))["data"]
    account = found[0] if found else await admin.made("/admins", somebody("wrong"))
    for answer in (
        await admin.post("/admins", {**somebody("other"), **news}),
        await admin.patch(f"/admins/{account['id']}", news, match='"1"'),
    ):
        refused(answer, 422, "invalid")
        assert field in [wrong["pointer"] for wrong in answer.json()["errors"]]


async def test_null_is_no_value(admin: Admin) -> None:
    made = await admin.made("/admins", somebody("ada"))
    answer = await admin.patch(f"/admins/{made['id']}", {"name": None}, match='"1"')
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "#/name"


async def test_the_list_is_searched_paged_and_exported(admin: Admin) -> None:
    for name in ("ada", "bob", "eve"):
        await admin.made("/admins", somebody(name))
    first = await admin.read("/admins", limit=2)
    second = await admin.read("/admins", limit=2, cursor=first["next_cursor"])
    emails = [each["email"] for each in first["data"] + second["data"]]
    assert emails == ["ada@example.org", "bob@example.org", "eve@example.org"] and second["next_cursor"] is None
    assert [each["email"] for each in (await admin.read("/admins", search="BOB"))["data"]] == ["bob@example.org"]
    assert len((await admin.get("/admins", format="csv", limit=1)).body.splitlines()) == 4
    assert (await admin.get("/admins", format="xlsx")).body.startswith(b"PK")


@pytest.mark.parametrize("role", ["admin", "support"])
async def test_only_owners_see_and_change_admins(admin: Admin, login: Login, role: str) -> None:
    somebody_else = await login(role)
    me = await somebody_else.read("/auth/me")
    for answer in (
        await somebody_else.get("/admins"),
        await somebody_else.post("/admins", somebody("x", "owner")),
        await somebody_else.get(f"/admins/{me['admin']['id']}"),
        await somebody_else.patch(f"/admins/{me['admin']['id']}", {"role": "owner"}, match='"1"'),
        await somebody_else.delete(f"/admins/{me['admin']['id']}", match='"1"'),
    ):
        refused(answer, 403, "forbidden")
    owner = await login("owner")
    assert (await owner.get("/admins")).status == 200
