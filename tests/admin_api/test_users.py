"""Users over HTTP: made, found, changed as a whole or not at all, deleted so that nobody finds them, restored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.world import audited, grouped, pointers, written
from tests.house import Admin, Farebox

NOBODY = str(uuid4())


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def made(admin: Admin, **fields: Any) -> Any:
    return await admin.made("/users", {"name": "Ada", **fields})


async def test_a_user_is_made_with_what_is_said_and_the_usual_rest(admin: Admin) -> None:
    answer = await admin.post("/users", {"name": "Ada", "email": "ada@example.org", "role": "vip", "language": "de"})
    user = answer.json()
    assert answer.status == 201
    assert answer.headers["location"] == f"/admin/api/v1/users/{user['id']}"
    assert answer.headers["etag"] == f'"{user["updated_at"]}"'
    assert (user["realm"], user["role"], user["language"], user["status"]) == ("farebox", "vip", "de", "active")
    assert (user["tier"], user["tier_pinned"], user["groups"]) == ("free", False, [])


async def test_a_tier_named_at_creation_is_pinned_and_has_to_be_there(admin: Admin) -> None:
    assert (await made(admin, tier="pro"))["tier_pinned"] is True
    answer = await admin.post("/users", {"name": "Ada", "tier": "gold"})
    assert pointers(answer) == ["#/tier"]


async def test_a_realm_has_each_subject_once(admin: Admin) -> None:
    subject = str(uuid4())
    first = await made(admin, realm="chat", subject=subject)
    again = await admin.post("/users", {"realm": "chat", "subject": subject})
    assert again.status == 409 and first["id"] in again.json()["detail"]
    assert (await made(admin, realm="other", subject=subject))["id"] != first["id"]


async def test_what_a_user_cannot_be_is_named_field_by_field(admin: Admin) -> None:
    body = {"email": "nobody", "role": "king", "language": "x y", "colour": "blue", "realm": ""}
    answer = await admin.post("/users", body)
    assert pointers(answer) == ["#/colour", "#/email", "#/language", "#/realm", "#/role"]


async def test_a_creation_that_is_sent_again_makes_one_user(admin: Admin) -> None:
    key = str(uuid4())
    replies = [await admin.post("/users", {"name": "Once"}, key=key) for _ in range(2)]
    assert [reply.status for reply in replies] == [201, 201] and replies[0].body == replies[1].body
    assert replies[1].headers["idempotency-replayed"] == "true"


async def test_users_are_found_by_text_id_and_every_filter(admin: Admin, module_farebox: Farebox) -> None:
    mark = uuid4().hex
    ann = await made(admin, name=f"Ann {mark}", email=f"{mark}@example.org", tier="pro")
    bob = await made(admin, name=f"Bob {mark}", role="vip", realm="chat", subject=f"s-{mark}")
    group = await grouped(module_farebox, bob["id"], name=mark)

    async def found(**query: Any) -> list[str]:
        return [each["id"] for each in (await admin.read("/users", **query))["data"]]

    assert await found(search=mark.upper()) == [bob["id"], ann["id"]]
    assert await found(search=mark, sort="oldest") == [ann["id"], bob["id"]]
    assert await found(search=ann["id"]) == [ann["id"]]
    assert await found(search=mark, tier="pro") == [ann["id"]]
    assert await found(search=mark, role="vip") == [bob["id"]]
    assert await found(group=group["id"]) == [bob["id"]]
    await admin.patch(f"/users/{ann['id']}", {"status": "suspended"})
    assert await found(search=mark, status="suspended") == [ann["id"]]


@pytest.mark.parametrize("sort", ["newest", "oldest"])
async def test_pages_show_everybody_once(admin: Admin, sort: str) -> None:
    mark = uuid4().hex
    ids = [(await made(admin, name=f"{mark} {number}"))["id"] for number in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = await admin.read("/users", search=mark, sort=sort, limit=2, cursor=cursor)
        seen += [each["id"] for each in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == (ids[::-1] if sort == "newest" else ids)


async def test_a_list_is_a_file_for_a_spreadsheet_and_no_formula(admin: Admin) -> None:
    mark = uuid4().hex
    await made(admin, name=f"=cmd {mark}")
    answer = await admin.get("/users", search=mark, format="csv")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv")
    heading, row = answer.body.decode().splitlines()
    assert heading.startswith("id,realm,subject,email,name") and f"'=cmd {mark}" in row


async def test_a_user_is_shown_whole(admin: Admin, module_farebox: Farebox) -> None:
    caller = await module_farebox.caller(tier="free", usd="2.50")
    answer = await admin.get(f"/users/{caller.user.id}")
    user = answer.json()
    assert answer.status == 200 and answer.headers["etag"] == f'"{user["updated_at"]}"'
    assert user["in_force"] == {
        "name": "free",
        "title": "",
        "why": "pinned",
        "since": user["tier_since"],
        "unlimited": False,
        "paid_by": None,
    }
    assert user["balance"] | {"wallet_id": ""} == {
        "wallet_id": "",
        "state": "active",
        "spendable": "2.6000",
        "held": "0.0000",
        "available": "2.6000",
        "by_kind": {"paid": "2.5000", "plan": "0.1000"},
    }
    assert [(each["kind"], each["remaining"]) for each in user["grants"]] == [("plan", "0.1000"), ("paid", "2.5000")]
    (allowance,) = user["allowances"]
    assert (allowance["unit"], allowance["amount"], allowance["left"]) == ("usd", "0.1000", "0.1000")
    assert user["status"] == {"state": "active", "can_make_request": True, "code": "", "message": ""}
    assert (user["keys"], user["groups"], user["limits"]["windows"]) == (1, [], [])
    assert user["this_month"] == {"calls": 0, "amount": "0.0000", "amount_tokens": 0}


async def test_why_a_tier_is_in_force_is_said(admin: Admin, module_farebox: Farebox) -> None:
    user = await made(admin)

    async def why() -> tuple[str, str]:
        force = (await admin.read(f"/users/{user['id']}"))["in_force"]
        return force["name"], force["why"]

    assert await why() == ("free", "default")
    await grouped(module_farebox, user["id"], name=uuid4().hex, tier="paid")
    assert await why() == ("paid", "group")
    await admin.patch(f"/users/{user['id']}", {"tier": "pro"})
    assert await why() == ("pro", "pinned")
    await written(module_farebox, "UPDATE users SET tier = 'gone' WHERE id = :id", id=user["id"])
    assert await why() == ("free", "missing")


async def test_a_suspended_user_may_not_call_and_is_told_so(admin: Admin, module_farebox: Farebox) -> None:
    caller = await module_farebox.caller()
    changed = await admin.patch(f"/users/{caller.user.id}", {"status": "suspended"})
    assert changed.json()["status"] == "suspended"
    status = (await admin.read(f"/users/{caller.user.id}"))["status"]
    assert (status["state"], status["can_make_request"], status["code"]) == ("suspended", False, "account_suspended")
    assert status["message"] == "This account is suspended. Ask the operator of this service."


async def test_what_the_body_names_is_changed_together_and_each_recorded_as_what_it_is(admin: Admin) -> None:
    user = await made(admin)
    body = {"name": "Anna", "email": "", "language": "de", "role": "vip", "status": "suspended", "tier": "pro"}
    changed = (await admin.patch(f"/users/{user['id']}", body)).json()
    assert {name: changed[name] for name in body} == body and changed["tier_pinned"] is True
    audit = await audited(admin, target_type="user", target_id=user["id"])
    assert [each["action"] for each in audit] == ["user.tier", "user.status", "user.change", "user.create"]
    assert audit[2]["after"] == {"language": "de", "name": "Anna", "role": "vip"}
    assert {each["actor"] for each in audit} == {"admin-key"}


async def test_a_change_that_cannot_be_changes_nothing(admin: Admin) -> None:
    user = await made(admin)
    wrong = {"name": "Anna", "tier": "gold"}, {"name": None}, {"tier_from": "now"}, {"status": "deleted"}
    for body in (*wrong, {"tier": None, "tier_from": "period_end"}, {"id": NOBODY}):
        assert (await admin.patch(f"/users/{user['id']}", body)).status == 422, body
    assert (await admin.read(f"/users/{user['id']}"))["updated_at"] == user["updated_at"]


async def test_who_has_seen_an_older_user_writes_nothing(admin: Admin) -> None:
    user = await made(admin)
    seen = f'"{user["updated_at"]}"'
    first = await admin.patch(f"/users/{user['id']}", {"name": "Bea"}, match=seen)
    assert first.status == 200
    stale = await admin.patch(f"/users/{user['id']}", {"name": "Cleo", "tier": "pro"}, match=seen)
    assert (stale.status, stale.json()["type"]) == (409, "urn:farebox:problem:stale-write")
    third = await admin.patch(f"/users/{user['id']}", {"name": "Cleo"}, match=first.headers["etag"])
    assert third.json()["name"] == "Cleo" and third.json()["tier"] == "free"
    assert (await admin.patch(f"/users/{user['id']}", {"name": "Dora"})).status == 200


async def test_of_writers_who_read_first_each_is_told_or_counted(admin: Admin) -> None:
    user = await made(admin, name="0")

    async def count_up() -> None:
        while True:
            seen = await admin.get(f"/users/{user['id']}")
            name = str(int(seen.json()["name"]) + 1)
            answer = await admin.patch(f"/users/{user['id']}", {"name": name}, match=seen.headers["etag"])
            if answer.status == 200:
                return
            assert answer.status == 409

    await asyncio.gather(*(count_up() for _ in range(6)))
    assert (await admin.read(f"/users/{user['id']}"))["name"] == "6"


async def test_a_tier_can_wait_until_the_running_period_ends(admin: Admin, module_farebox: Farebox) -> None:
    user = await made(admin, tier="free")
    changed = (await admin.patch(f"/users/{user['id']}", {"tier": "pro", "tier_from": "period_end"})).json()
    now = datetime.now(UTC)
    first = (now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
    assert (changed["tier"], changed["next_tier"]) == ("free", "pro")
    assert changed["next_tier_at"] == first.isoformat().replace("+00:00", "Z")
    dropped = (await admin.patch(f"/users/{user['id']}", {"tier": "free"})).json()
    assert (dropped["tier"], dropped["next_tier"], dropped["next_tier_at"]) == ("free", None, None)


async def test_an_unpinned_tier_is_the_groups_to_decide(admin: Admin) -> None:
    user = await made(admin, tier="pro")
    assert (await admin.patch(f"/users/{user['id']}", {"tier": None})).json()["tier_pinned"] is False


async def test_a_deleted_user_is_nowhere_until_it_is_restored(admin: Admin, module_farebox: Farebox) -> None:
    mark = uuid4().hex
    user = await made(admin, name=mark)
    path = f"/users/{user['id']}"
    assert (await admin.delete(path)).status == 204
    assert [(await ask(path)).status for ask in (admin.get, admin.delete)] == [404, 404]
    assert (await admin.patch(path, {"name": "x"})).status == 404
    assert (await admin.read("/users", search=mark))["data"] == []
    (listed,) = (await admin.read("/users", search=mark, status="deleted"))["data"]
    assert listed["id"] == user["id"]
    restored = await admin.post(f"{path}/restore")
    assert (restored.status, restored.json()["status"]) == (200, "active")
    assert (await admin.get(path)).status == 200


async def test_restoring_who_is_not_deleted_changes_nothing(admin: Admin) -> None:
    user = await made(admin)
    suspended = (await admin.patch(f"/users/{user['id']}", {"status": "suspended"})).json()
    assert (await admin.post(f"/users/{user['id']}/restore")).json() == suspended
    assert (await admin.post(f"/users/{NOBODY}/restore")).status == 404


async def test_unknown_deleted_and_malformed_ids_are_told_alike(admin: Admin) -> None:
    gone = await made(admin)
    await admin.delete(f"/users/{gone['id']}")
    told = []
    for who in (NOBODY, gone["id"], "nobody", "0", "%F0%9F%92%A5", gone["id"].upper()):
        for path in ("", "/limits", "/credits", "/ledger", "/grants", "/usage", "/keys", "/explain"):
            answer = await admin.get(f"/users/{who}{path}")
            told.append((answer.status, answer.json() | {"instance": ""}))
    assert all(each == told[0] for each in told) and told[0][0] == 404


async def test_support_looks_and_changes_nothing(admin: Admin, module_support: Admin) -> None:
    user = await made(admin)
    assert (await module_support.get(f"/users/{user['id']}")).status == 200
    for answer in (
        await module_support.post("/users", {"name": "x"}),
        await module_support.patch(f"/users/{user['id']}", {"name": "x"}),
        await module_support.delete(f"/users/{user['id']}"),
        await module_support.post(f"/users/{user['id']}/restore"),
        await module_support.delete(f"/users/{NOBODY}"),
    ):
        assert answer.status == 403
