"""Upstreams over the API: their keys are named and never shown, and a backend in use stays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_api.conftest import logged_in
from tests.house import Admin, Farebox

SECRET = "hunter2-hunter2"
FULL: dict[str, Any] = {
    "base_url": "https://api.example.com/v1",
    "api_key_env": "FAREBOX_TEST_OTHER_KEY",
    "timeouts": {"connect_s": None, "first_byte_s": 60.0, "idle_s": 5.5, "total_s": None},
    "headers": {"x-team": "chat", "x-api-token": SECRET},
    "capabilities": ["anthropic"],
    "allow_private": True,
}


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def test_an_upstream_is_made_and_read_with_every_field(admin: Admin) -> None:
    answer = await admin.post("/upstreams", {"name": "other", **FULL})
    assert (answer.status, answer.headers["etag"]) == (201, '"1"'), answer.body
    made = answer.json()
    assert {name: made[name] for name in FULL} == FULL
    assert (await admin.get("/upstreams/other")).json() == made


async def test_whether_a_key_is_there_is_said_and_the_key_is_not(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    await admin.made("/upstreams", {"name": "keyed", "base_url": "http://h", "api_key_env": "FAREBOX_TEST_KEY_SET"})
    assert (await admin.read("/upstreams/keyed"))["key_set"] is False
    monkeypatch.setenv("FAREBOX_TEST_KEY_SET", SECRET)
    answer = await admin.get("/upstreams/keyed")
    assert answer.json()["key_set"] is True and SECRET.encode() not in answer.body
    await admin.made("/upstreams", {"name": "keyless", "base_url": "http://h"})
    assert (await admin.read("/upstreams/keyless"))["key_set"] is None


async def test_who_may_only_look_sees_no_header_that_may_be_a_secret(admin: Admin) -> None:
    await admin.made("/upstreams", {"name": "headed", **FULL})
    support = await logged_in(admin, "support")
    answer = await support.get("/upstreams/headed")
    assert answer.json()["headers"] == {"x-team": "chat", "x-api-token": "***"}
    for path in ("/upstreams", "/catalog.toml", "/audit"):
        shown = await support.get(path)
        assert shown.status == 200 and SECRET.encode() not in shown.body, path


async def test_no_secret_of_a_header_stands_in_the_audit(admin: Admin, module_farebox: Farebox) -> None:
    await admin.made("/upstreams", {"name": "recorded", **FULL})
    await admin.patch("/upstreams/recorded", {"headers": {"x-api-token": SECRET + "2"}}, match='"1"')
    rows = await module_farebox.rows("SELECT before, after FROM audit WHERE target_id = 'recorded'")
    assert len(rows) == 2 and SECRET not in str(rows)


async def test_a_header_is_added_and_taken_away_by_itself(admin: Admin) -> None:
    await admin.made("/upstreams", {"name": "patched", **FULL})
    patch = {"headers": {"x-team": None, "X-New": "1"}, "timeouts": {"idle_s": None}}
    answer = await admin.patch("/upstreams/patched", patch, match='"1"')
    assert answer.status == 200, answer.body
    assert answer.json()["headers"] == {"x-api-token": SECRET, "x-new": "1"}
    assert answer.json()["timeouts"] == FULL["timeouts"] | {"idle_s": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://h"},
        {"base_url": "https://user:pw@h"},
        {"base_url": "https://h/v1?key=x"},
        {"base_url": "http://h:0"},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"x-a": "b\r\nc: d"}},
        {"api_key_env": "sk-live-0123"},
        {"timeouts": {"idle_s": 0}},
        {"timeouts": {"idle_s": "5"}},
        {"allow_private": "yes"},
    ],
)
async def test_what_cannot_be_meant_is_refused_in_its_place(admin: Admin, wrong: dict[str, Any]) -> None:
    answer = await admin.post("/upstreams", {"name": "wrong", **FULL, **wrong})
    assert answer.status == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"].split("/")[1] == next(iter(wrong))


async def test_a_backend_of_a_model_stays(admin: Admin) -> None:
    answer = await admin.delete("/upstreams/main", match=(await admin.get("/upstreams/main")).headers["etag"])
    assert answer.status == 409 and "model small" in answer.json()["used_by"]


async def test_an_upstream_is_retired_and_restored(admin: Admin) -> None:
    await admin.made("/upstreams", {"name": "gone", **FULL})
    assert (await admin.delete("/upstreams/gone", match='"1"')).status == 204
    assert "gone" not in [each["name"] for each in (await admin.read("/upstreams"))["data"]]
    assert (await admin.made("/upstreams/gone/restore"))["retired_at"] is None
    assert "gone" in [each["name"] for each in (await admin.read("/upstreams", search="gone"))["data"]]
