"""Tiers over the API: one object from its creation to its end, and each refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_api.conftest import logged_in
from tests.house import Admin, Answer, Farebox

FULL: dict[str, Any] = {
    "title": "Gold",
    "price": "20.0000",
    "price_every": "year",
    "models": ["small", "l*"],
    "features": ["tools", "images"],
    "concurrency": 4,
    "markup": "1.2",
    "max_output": 4096,
    "max_context": 32_768,
    "unlimited": False,
    "upgrade_to": "pro",
    "upgrade_url": "https://ai.example.com/pricing",
    "listed": False,
    "sentences": {"en": {"balance_short": "Only {balance} left. See {url}"}, "fa": {"internal": "وای"}},
    "tasks_per_request": 3,
    "embeddings_per_request": 20,
    "embeddings_concurrency": 6,
    "allowance": {"usd": "5.0000", "tokens": None, "every": "month", "zone": "Europe/Berlin", "anchor": "anniversary"},
    "windows": [
        {"limit": 60, "of": "requests", "per": "minute", "route": None, "models": []},
        {"limit": "0.5000", "of": "cost", "per": 90, "route": "chat.completions", "models": ["l*"]},
    ],
}


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def errors(answer: Answer) -> dict[str, str]:
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


async def test_a_tier_is_made_read_and_has_every_field(admin: Admin) -> None:
    answer = await admin.post("/tiers", {"name": "gold", **FULL})
    assert answer.status == 201, answer.body
    assert (answer.headers["etag"], answer.headers["location"]) == ('"1"', "/admin/api/v1/tiers/gold")
    made = answer.json()
    life = {name: made.pop(name) for name in ("version", "created_at", "updated_at", "retired_at")}
    assert made == {"name": "gold", **FULL}
    assert (life["version"], life["retired_at"]) == (1, None) and life["created_at"] == life["updated_at"]
    read = await admin.get("/tiers/gold")
    assert read.json() == answer.json() and read.headers["etag"] == '"1"'


async def test_what_is_left_out_is_as_usual(admin: Admin) -> None:
    made = await admin.made("/tiers", {"name": "plain"})
    assert (made["models"], made["markup"], made["price"], made["allowance"]) == (["*"], "1", "0.0000", None)


async def test_a_change_names_what_changes_and_the_version_it_was_made_on(admin: Admin) -> None:
    await admin.made("/tiers", {"name": "patched", **FULL})
    patch = {"title": None, "allowance": {"usd": "7"}, "concurrency": 9}
    answer = await admin.patch("/tiers/patched", patch, match='"1"')
    assert answer.status == 200 and answer.headers["etag"] == '"2"', answer.body
    changed = answer.json()
    assert (changed["title"], changed["concurrency"], changed["price"]) == ("", 9, "20.0000")
    assert changed["allowance"] == FULL["allowance"] | {"usd": "7.0000"}
    assert (await admin.patch("/tiers/patched", patch, match='"1"')).status == 409
    assert (await admin.patch("/tiers/patched", patch)).status == 428
    assert (await admin.get("/tiers/patched")).json() == changed


async def test_a_merge_patch_may_say_that_it_is_one(admin: Admin) -> None:
    await admin.made("/tiers", {"name": "typed"})
    kind = {"content-type": "application/merge-patch+json"}
    answer = await admin.patch("/tiers/typed", {"title": "T"}, match='"1"', headers=kind)
    assert (answer.status, answer.json()["title"]) == (200, "T")


async def test_a_change_that_leaves_nothing_sensible_is_refused_by_field(admin: Admin) -> None:
    await admin.made("/tiers", {"name": "sensible", **FULL})
    answer = await admin.patch("/tiers/sensible", {"allowance": {"tokens": 5}, "name": None}, match='"1"')
    assert answer.status == 422
    assert errors(answer) == {"#/allowance": "must name either usd or tokens", "#/name": "is missing"}
    answer = await admin.patch("/tiers/sensible", {"name": "other"}, match='"1"')
    assert answer.status == 422 and "cannot be changed" in errors(answer)["#/name"]
    answer = await admin.patch("/tiers/sensible", {"upgrade_to": "nowhere"}, match='"1"')
    assert errors(answer) == {"#/upgrade_to": "there is no tier nowhere"}
    assert (await admin.get("/tiers/sensible")).json()["version"] == 1


async def test_everything_wrong_is_told_at_once_with_its_place(admin: Admin) -> None:
    body = {
        "name": "a b",
        "price": 1.5,
        "markup": 1.2,
        "nonsense": 1,
        "concurrency": "4",
        "windows": [{"limit": 5, "of": "requests", "per": "fortnight"}],
        "allowance": {"usd": "x"},
        "upgrade_url": "ftp://x",
        "features": ["telepathy"],
        "sentences": {"en": {"balance_short": "Wait {wait}"}},
    }
    answer = await admin.post("/tiers", body)
    assert answer.status == 422 and answer.headers["content-type"] == "application/problem+json"
    assert set(errors(answer)) == {
        "#/name", "#/price", "#/markup", "#/nonsense", "#/concurrency", "#/windows/0/per", "#/allowance/usd",
        "#/upgrade_url", "#/features/0", "#/sentences",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a/restore", "a/prices/5", "/a", "a//b", "a/", ".", "a/..", "b/./c"])
async def test_a_name_to_which_no_path_would_lead_is_refused(admin: Admin, name: str) -> None:
    answer = await admin.post("/tiers", {"name": name})
    assert answer.status == 422 and set(errors(answer)) == {"#/name"}


async def test_a_name_is_taken_once(admin: Admin) -> None:
    await admin.made("/tiers", {"name": "once"})
    answer = await admin.post("/tiers", {"name": "once"})
    assert (answer.status, answer.json()["type"]) == (409, "urn:farebox:problem:name-taken")


async def test_tiers_are_listed_searched_paged_and_exported(admin: Admin) -> None:
    for number in range(3):
        await admin.made("/tiers", {"name": f"listed-{number}", "title": f"=Rung {number}", "price": "1.50"})
    first = await admin.read("/tiers", search="LISTED", limit=2)
    assert [tier["name"] for tier in first["data"]] == ["listed-0", "listed-1"]
    rest = await admin.read("/tiers", search="listed", limit=2, cursor=first["next_cursor"])
    assert [tier["name"] for tier in rest["data"]] == ["listed-2"] and rest["next_cursor"] is None
    assert len((await admin.read("/tiers", search="rung 2"))["data"]) == 1
    lines = (await admin.get("/tiers", search="listed", format="csv")).body.decode().splitlines()
    assert lines[0].startswith("name,title,models,windows") and len(lines) == 4
    assert lines[1].startswith("listed-0,'=Rung 0,*,") and ",1.5000,month," in lines[1]


async def test_a_retired_tier_is_kept_shown_on_request_and_restored(admin: Admin) -> None:
    await admin.made("/tiers", {"name": "gone"})
    assert (await admin.delete("/tiers/gone")).status == 428
    answer = await admin.delete("/tiers/gone", match='"1"')
    assert (answer.status, answer.body) == (204, b"")
    gone = await admin.read("/tiers/gone")
    assert gone["retired_at"] is not None and gone["version"] == 2
    assert (await admin.read("/tiers", search="gone"))["data"] == []
    assert (await admin.read("/tiers", search="gone", include_retired=True))["data"] == [gone]
    answer = await admin.patch("/tiers/gone", {"title": "x"}, match='"2"')
    assert (answer.status, answer.json()["type"]) == (409, "urn:farebox:problem:retired")
    restored = await admin.post("/tiers/gone/restore")
    assert (restored.status, restored.headers["etag"], restored.json()["retired_at"]) == (200, '"3"', None)


async def test_a_tier_in_use_is_not_retired_and_who_uses_it_is_said(admin: Admin, module_farebox: Farebox) -> None:
    await admin.made("/tiers", {"name": "top"})
    await admin.made("/tiers", {"name": "below", "upgrade_to": "top"})
    await module_farebox.caller(tier="top", name="Grace")
    answer = await admin.delete("/tiers/top", match='"1"')
    assert (answer.status, answer.json()["type"]) == (409, "urn:farebox:problem:in-use")
    assert answer.json()["used_by"] == ["tier below (as its upgrade)", "1 user"]
    version = (await admin.get("/tiers/free")).headers["etag"]
    assert "new users (it is the default tier)" in (await admin.delete("/tiers/free", match=version)).json()["used_by"]


async def test_what_is_not_there_is_not_found(admin: Admin) -> None:
    for answer in (
        await admin.get("/tiers/nobody"),
        await admin.patch("/tiers/nobody", {}, match='"1"'),
        await admin.delete("/tiers/nobody", match='"1"'),
        await admin.post("/tiers/nobody/restore"),
        await admin.get("/tiers/"),
        await admin.get("/tiers/" + "x" * 201),
        await admin.get("/tiers/a%00b"),
    ):
        assert (answer.status, answer.json()["type"]) == (404, "urn:farebox:problem:not-found")


async def test_support_may_look_and_not_write(admin: Admin) -> None:
    support = await logged_in(admin, "support")
    await admin.made("/tiers", {"name": "looked-at"})
    assert (await support.get("/tiers/looked-at")).status == 200
    for answer in (
        await support.post("/tiers", {"name": "x"}),
        await support.patch("/tiers/looked-at", {"title": "x"}, match='"1"'),
        await support.delete("/tiers/looked-at", match='"1"'),
        await support.post("/tiers/looked-at/restore"),
    ):
        assert answer.status == 403


async def test_a_creation_that_is_repeated_under_its_key_is_done_once(admin: Admin) -> None:
    first = await admin.post("/tiers", {"name": "keyed"}, key="tier-1")
    again = await admin.post("/tiers", {"name": "keyed"}, key="tier-1")
    assert (first.status, again.status) == (201, 201) and again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"


async def test_every_write_stands_in_the_audit_with_before_and_after(admin: Admin, module_farebox: Farebox) -> None:
    await admin.made("/tiers", {"name": "audited"})
    await admin.patch("/tiers/audited", {"price": "3"}, match='"1"')
    rows = await module_farebox.rows("SELECT * FROM audit WHERE target_id = 'audited' ORDER BY seq")
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("tier.create", "admin-key"),
        ("tier.change", "admin-key"),
    ]
    assert "price" not in rows[1]["before"] and rows[1]["after"]["price"] == "3.0000"
    assert rows[1]["request_id"] is not None and rows[1]["address"] == "127.0.0.1"
