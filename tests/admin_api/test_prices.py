"""The versions of a price over the API: entered for now or later, never for the past, never taken away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.house import Admin, Farebox, until

SOON = (datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def model(admin: Admin, name: str) -> str:
    await admin.made("/models", {"id": name, "upstream": "main", "prices": {"input": "1"}})
    return f"/models/{name}"


async def states(admin: Admin, path: str) -> list[tuple[str, str]]:
    return [(each["prices"]["input"], each["state"]) for each in (await admin.read(f"{path}/prices"))["data"]]


async def test_a_price_is_entered_for_now(admin: Admin) -> None:
    path = await model(admin, "now")
    answer = await admin.post(f"{path}/prices", {"prices": {"input": "2"}})
    assert answer.status == 201, answer.body
    entered = answer.json()
    assert (entered["state"], entered["model"], entered["until"]) == ("in_force", "now", None)
    assert answer.headers["location"].endswith(f"/models/now/prices/{entered['version']}")
    assert await states(admin, path) == [("2.00", "in_force"), ("1.00", "past")]
    assert (await admin.read(f"{path}/prices/{entered['version']}")) == entered
    assert (await admin.read(path))["prices"]["input"] == "2.00"


async def test_a_price_is_planned_and_taken_back_by_another(admin: Admin) -> None:
    path = await model(admin, "planned")
    await admin.made(f"{path}/prices", {"prices": {"input": "9"}, "effective_at": SOON})
    assert await states(admin, path) == [("9.00", "planned"), ("1.00", "in_force")]
    assert (await admin.read(path))["prices"]["input"] == "1.00"
    await admin.made(f"{path}/prices", {"prices": {"input": "1"}, "effective_at": SOON})
    assert await states(admin, path) == [("1.00", "planned"), ("9.00", "superseded"), ("1.00", "in_force")]
    until_when = (await admin.read(f"{path}/prices"))["data"][-1]["until"]
    assert until_when == SOON


async def test_a_planned_price_comes_into_force_by_itself(admin: Admin, module_farebox: Farebox) -> None:
    path = await model(admin, "timed")
    ada = await module_farebox.caller(name="Timed")
    shortly = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    await admin.made(f"{path}/prices", {"prices": {"per_request": "0.25"}, "effective_at": shortly})

    async def charged_so() -> bool:
        answer = await module_farebox.chat(ada, model="timed")
        return answer.headers.get("x-farebox-cost") == "0.2500"

    await until(charged_so)


async def test_a_price_does_not_begin_in_the_past(admin: Admin) -> None:
    path = await model(admin, "past")
    for instant in ("2020-01-01T00:00:00Z", (datetime.now(UTC) - timedelta(seconds=1)).isoformat()):
        answer = await admin.post(f"{path}/prices", {"prices": {"input": "2"}, "effective_at": instant})
        assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "#/effective_at"
    assert await states(admin, path) == [("1.00", "in_force")]


async def test_a_price_is_not_changed_and_not_deleted(admin: Admin) -> None:
    path = await model(admin, "fixed")
    version = (await admin.read(f"{path}/prices"))["data"][0]["version"]
    before = await admin.read(f"{path}/prices")
    for method in ("DELETE", "PATCH", "PUT"):
        body: dict[str, str] | None = None if method == "DELETE" else {}
        answer = await admin.ask(method, f"{path}/prices/{version}", body, match='"1"')
        assert answer.status in (404, 405)
    assert await admin.read(f"{path}/prices") == before


async def test_a_new_price_makes_what_was_read_of_the_model_stale(admin: Admin) -> None:
    path = await model(admin, "stale")
    await admin.made(f"{path}/prices", {"prices": {"input": "2"}})
    assert (await admin.patch(path, {"prices": {"output": "3"}}, match='"1"')).status == 409


async def test_versions_are_paged(admin: Admin) -> None:
    path = await model(admin, "paged")
    for price in ("2", "3", "4", "5"):
        await admin.made(f"{path}/prices", {"prices": {"input": price}, "effective_at": SOON})
    seen, cursor = [], None
    while True:
        page = await admin.read(f"{path}/prices", limit=2, cursor=cursor)
        seen += [each["prices"]["input"] for each in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == ["5.00", "4.00", "3.00", "2.00", "1.00"]
    assert (await admin.get(f"{path}/prices", format="csv")).body.count(b"\r\n") == 6


async def test_what_is_not_there_is_not_found(admin: Admin) -> None:
    path = await model(admin, "here")
    version = (await admin.read("/models/small/prices"))["data"][0]["version"]
    for answer in (
        await admin.get("/models/nobody/prices"),
        await admin.post("/models/nobody/prices", {"prices": {}}),
        await admin.get(f"{path}/prices/{version}"),
        await admin.get(f"{path}/prices/-1"),
        await admin.get(f"{path}/prices/x"),
        await admin.get(f"{path}/prices/{10**30}"),
    ):
        assert answer.status == 404, answer.body


async def test_a_retired_model_gets_no_price(admin: Admin) -> None:
    path = await model(admin, "retired")
    await admin.delete(path, match='"1"')
    answer = await admin.post(f"{path}/prices", {"prices": {"input": "2"}})
    assert (answer.status, answer.json()["type"]) == (409, "urn:farebox:problem:retired")
    assert await states(admin, path) == [("1.00", "in_force")]
