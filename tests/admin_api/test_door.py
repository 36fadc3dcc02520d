"""What holds for every request, before any route sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from tests import house
from tests.admin_api.conftest import PASSWORD, problem, somebody
from tests.backend import Backend
from tests.house import ADMIN_KEY, Admin, Farebox
from tests.ledger.proxy import Wire


@pytest.fixture
def door(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


# Every reply --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/admins", "/nothing", "/auth/me"])
@pytest.mark.parametrize("bearer", [ADMIN_KEY, None])
async def test_every_reply_is_safe_to_look_at_and_names_its_request(door: Admin, path: str, bearer: str | None) -> None:
    answer = await door.bearing(bearer).get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers and "set-cookie" not in answer.headers
    assert UUID(answer.headers["x-request-id"]).version == 7


async def test_a_page_of_another_origin_is_given_no_leave(door: Admin) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await door.ask("OPTIONS", "/admins", headers=headers)
    assert answer.status == 405 and not any(name.startswith("access-control") for name in answer.headers)


async def test_what_is_not_there_is_told_to_those_who_may_look_and_in_one_way(door: Admin) -> None:
    paths = ("/nothing", "/admins/x", f"/admins/{UUID(int=1)}", "/%00", "/admins/%ff")
    answers = [await door.get(path) for path in paths]
    bodies = [{**problem(answer, 404, "not-found"), "instance": ""} for answer in answers]
    assert all(body == bodies[0] for body in bodies)
    problem(await door.bearing(None).get("/nothing"), 401)


async def test_a_method_that_is_not_there_is_told(door: Admin) -> None:
    answer = await door.put("/admins", {})
    problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}


# Where it comes from ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_site_may_not_write(door: Admin, site: str) -> None:
    headers = {"sec-fetch-site": site}
    problem(await door.post("/admins", somebody("x"), headers=headers), 403)
    problem(await door.bearing(None).post("/auth/login", {}, headers=headers), 403)
    assert (await door.get("/admins", headers=headers)).status == 200


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_a_page_of_ours_may(door: Admin, site: str) -> None:
    answer = await door.post("/admins", somebody(f"ours-{site}"), headers={"sec-fetch-site": site})
    assert answer.status == 201


async def test_nobody_is_believed_about_their_address(door: Admin) -> None:
    made = await door.made("/admins", somebody("address"), headers={"x-forwarded-for": "203.0.113.9"})
    (row,) = (await door.read("/audit", target_id=made["id"]))["data"]
    assert row["address"] == "127.0.0.1"


async def test_a_proxy_that_was_named_is(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> None:
    proxies: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"]}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **proxies) as farebox:
        await farebox.admin.made("/admins", somebody("a"), headers={"x-forwarded-for": "198.51.100.1, 203.0.113.9"})
        assert (await farebox.admin.read("/audit"))["data"][0]["address"] == "203.0.113.9"


# Its query -----------------------------------------------------------------------------------------------------------


async def test_a_query_no_database_could_keep_is_refused(door: Admin) -> None:
    problem(await door.get("/admins", search="a\0"), 400)


async def test_a_bearer_in_the_query_is_no_way_in(door: Admin) -> None:
    async with door.http.get(f"{door.url}/v1/admins?access_token={ADMIN_KEY}") as reply:
        assert reply.status == 401


# Once ---------------------------------------------------------------------------------------------------------------


async def test_a_write_sent_again_is_done_once_and_told_again(door: Admin) -> None:
    first, second = [await door.post("/admins", somebody("once"), key="k-once") for _ in range(2)]
    assert (first.status, first.body) == (second.status, second.body)
    assert "idempotency-replayed" not in first.headers and second.headers["idempotency-replayed"] == "true"
    for name in ("etag", "location", "content-type"):
        assert first.headers[name] == second.headers[name]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len((await door.read("/audit", target_id=first.json()["id"]))["data"]) == 1


async def test_of_many_at_once_one_is_done(door: Admin) -> None:
    answers = await asyncio.gather(*(door.post("/admins", somebody("many"), key="k-many") for _ in range(10)))
    done = [answer for answer in answers if answer.status == 201]
    assert {answer.json()["id"] for answer in done} and len({answer.json()["id"] for answer in done}) == 1
    assert {answer.status for answer in answers} <= {201, 409}


async def test_the_same_key_for_another_request_is_refused(door: Admin) -> None:
    made = await door.made("/admins", somebody("key"), key="k-key")
    problem(await door.post("/admins", somebody("key2"), key="k-key"), 422, "key-reused")
    problem(await door.delete(f"/admins/{made['id']}", key="k-key", match='"1"'), 422, "key-reused")
    assert (await door.delete(f"/admins/{made['id']}", key="k-gone", match='"1"')).status == 204
    problem(await door.delete(f"/admins/{made['id']}", key="k-gone", match='"2"'), 422, "key-reused")


async def test_what_no_route_takes_is_told_as_that_whatever_its_key_was_used_for(door: Admin) -> None:
    await door.made("/admins", somebody("routed"), key="k-routed")
    problem(await door.patch("/admins", somebody("routed"), key="k-routed"), 405)
    problem(await door.post("/nothing", {}, key="k-routed"), 404)


async def test_what_was_refused_may_be_mended_under_its_key(door: Admin) -> None:
    problem(await door.post("/admins", {**somebody("mended"), "role": "king"}, key="k-mended"), 422)
    answer = await door.post("/admins", somebody("mended"), key="k-mended")
    assert answer.status == 201 and "idempotency-replayed" not in answer.headers


async def test_a_reply_without_a_body_is_told_again_too(door: Admin) -> None:
    made = await door.made("/admins", somebody("gone"))
    for _ in range(2):
        answer = await door.delete(f"/admins/{made['id']}", key="k-bodyless", match='"1"')
        assert (answer.status, answer.body) == (204, b"")


async def test_a_key_that_cannot_be_one_is_refused(door: Admin) -> None:
    document = problem(await door.post("/admins", somebody("x"), key="two words"), 422)
    assert document["errors"][0]["parameter"] == "idempotency-key"


# What is away -------------------------------------------------------------------------------------------------------


async def test_a_database_that_is_away_is_told_with_a_wait(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    wire = Wire(database_url)
    await wire.mend()
    async with house.farebox(data_dir, wire.url, redis_url, backend.url) as farebox:
        login = {"email": "ada@example.org", "password": PASSWORD}
        await farebox.admin.read("/admins")
        await wire.cut()
        for answer in (
            await farebox.admin.get("/admins"),
            await farebox.admin.get("/audit", format="csv"),
            await farebox.admin.post("/admins", somebody("x"), key="k"),
            await farebox.admin.bearing(None).post("/auth/login", login),
        ):
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        await wire.mend()
        assert (await farebox.admin.post("/admins", somebody("x"), key="k")).status == 201


async def test_a_defect_is_told_without_a_detail_and_logged(farebox: Farebox, caplog: pytest.LogCaptureFixture) -> None:
    async with farebox.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE admins RENAME COLUMN name TO nom"))
    answer = await farebox.admin.get("/admins")
    document = problem(answer, 500, "internal")
    assert "nom" not in document["detail"] and "admins" not in document["detail"]
    assert any(getattr(record, "request_id", "") == answer.headers["x-request-id"] for record in caplog.records)
