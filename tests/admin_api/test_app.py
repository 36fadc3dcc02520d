"""The admin API as a whole: who may what over all routes, and a process that cleans up after itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import CHARGES
from admin_api.access import Allowed
from admin_api.app import application
from tests import house
from tests.admin_api.conftest import logged_in
from tests.backend import Backend
from tests.house import Admin, Answer, Farebox, until

ROUTES = [route for route in application().routes if isinstance(route, APIRoute) and route.include_in_schema]
CALLS = sorted((method, route.path_format) for route in ROUTES for method in route.methods or ())
OPEN = {"login", "refresh"}
OWN = {"/v1/auth/logout", "/v1/auth/password", "/v1/auth/sessions/{session_id}"}
"""What everybody may change: their own way in."""


def roles(route: APIRoute) -> list[tuple[str, ...]]:
    """Which roles pass, by each dependency that asks."""

    def found(dependant: Dependant) -> list[tuple[str, ...]]:
        own = [dependant.call.roles] if isinstance(dependant.call, Allowed) else []
        return [*own, *(each for inner in dependant.dependencies for each in found(inner))]

    return found(route.dependant)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_every_route_asks_for_a_role_once(route: APIRoute) -> None:
    asked = roles(route)
    assert len(asked) == (0 if route.operation_id in OPEN else 1)
    if asked and route.methods != {"GET"} and route.path_format not in OWN:
        assert "support" not in asked[0]


# Whoever asks -------------------------------------------------------------------------------------------------------


def filled(path: str) -> str:
    """A path with names of nothing in it."""
    return re.sub(r"\{[^}]+\}", lambda _: str(uuid4()), path).removeprefix("/v1")


async def ask(client: Admin, method: str, path: str, body: Any = None) -> Answer:
    sent = body if body is not None or method in ("GET", "DELETE") else {}
    return await client.ask(method, filled(path), sent, match='"1"')


async def test_without_a_bearer_nothing_is_told_but_who_may_ask(module_farebox: Farebox) -> None:
    nobody = module_farebox.admin.bearing(None)
    for method, path in CALLS:
        if path not in ("/v1/auth/login", "/v1/auth/refresh"):
            answer = await ask(nobody, method, path)
            assert (answer.status, "www-authenticate" in answer.headers) == (401, True), (method, path)


async def test_a_users_key_is_nobody_here(module_farebox: Farebox) -> None:
    key = (await module_farebox.caller()).key
    user = module_farebox.admin.bearing(key)
    for method, path in CALLS:
        if path not in ("/v1/auth/login", "/v1/auth/refresh"):
            assert (await ask(user, method, path)).status == 401, (method, path)


@pytest.fixture(scope="module")
async def support(module_farebox: Farebox) -> Admin:
    return await logged_in(module_farebox.admin, "support")


async def test_support_writes_nothing_but_its_own_way_in(module_farebox: Farebox, support: Admin) -> None:
    before = await module_farebox.rows("SELECT max(seq) AS seq FROM audit")
    for method, path in CALLS:
        if method != "GET" and path not in OWN and path not in ("/v1/auth/login", "/v1/auth/refresh"):
            answer = await ask(support, method, path)
            assert answer.status == 403, (method, path, answer.body)
    assert await module_farebox.rows("SELECT max(seq) AS seq FROM audit") == before


async def test_support_may_look_at_everything_but_admins(support: Admin) -> None:
    for method, path in CALLS:
        if method == "GET":
            expected = path.startswith("/v1/admins")
            answer = await ask(support, method, path)
            assert (answer.status == 403) is expected and answer.status < 500, (path, answer.body)


async def test_a_key_for_charges_does_nothing_else(module_farebox: Farebox) -> None:
    user = await module_farebox.accounts.create_user(name="Charger")
    full, _ = await module_farebox.accounts.create_key(name="billing", user_id=user.id, scopes=[CHARGES])
    client = module_farebox.admin.bearing(full)
    passed = set()
    for method, path in CALLS:
        if path not in ("/v1/auth/login", "/v1/auth/refresh") and (await ask(client, method, path)).status != 403:
            passed.add((method, path))
    assert passed <= {("POST", "/v1/charges")}


async def test_an_owner_meets_no_defect_anywhere(module_farebox: Farebox) -> None:
    for method, path in CALLS:
        if method != "PUT":
            answer = await ask(module_farebox.admin, method, path)
            assert answer.status < 500, (method, path, answer.body)


BODIES = [
    (method, route.path_format)
    for route in ROUTES
    for method in route.methods or ()
    if route.body_field is not None and route.operation_id not in OPEN
]


@pytest.mark.parametrize(("method", "path"), BODIES, ids=lambda value: value)
async def test_an_unknown_field_is_named(module_farebox: Farebox, method: str, path: str) -> None:
    answer = await ask(module_farebox.admin, method, path, {"nonsense": 1})
    assert answer.status in (422, 404), answer.body
    if answer.status == 422:
        wrongs = {wrong.get("pointer"): wrong["detail"] for wrong in answer.json()["errors"]}
        assert "nonsense" in wrongs or any("nonsense" in str(pointer) for pointer in wrongs), wrongs


@pytest.mark.parametrize("path", [path for method, path in CALLS if method == "GET" and "{" in path])
async def test_a_name_that_is_none_and_a_name_of_nothing_are_told_alike(module_farebox: Farebox, path: str) -> None:
    names = (str(UUID(int=1)), "x", "%F0%9F%98%80", "x" * 300, "..%2f", "-1", "null")
    answers = [await module_farebox.admin.get(re.sub(r"\{[^}]+\}", name, path).removeprefix("/v1")) for name in names]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body.replace(answer.headers["x-request-id"].encode(), b"") for answer in answers}) == 1


# What it does by itself ---------------------------------------------------------------------------------------------


async def test_what_is_old_is_swept_when_it_starts(
    data_dir: Path, engine: AsyncEngine, database_url: str, redis_url: str, backend: Backend
) -> None:
    row = "('a', 'k', '', NULL, NULL, NULL, '2020-01-01')"
    async with engine.begin() as connection:
        await connection.execute(text(f"INSERT INTO idempotency_keys VALUES {row}"))
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:

        async def gone() -> bool:
            return not await farebox.rows("SELECT * FROM idempotency_keys")

        await until(gone)


async def test_a_sweep_that_fails_is_told_among_the_system_events(
    data_dir: Path, engine: AsyncEngine, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE idempotency_keys RENAME COLUMN at TO since"))
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:

        async def told() -> bool:
            return bool((await farebox.admin.read("/logs", event="admin.sweep_failed"))["data"])

        await until(told)
        (event,) = (await farebox.admin.read("/logs", event="admin.sweep_failed"))["data"]
        assert (event["level"], event["detail"]["what"]) == ("warning", "Once")


async def test_after_the_end_no_connection_is_left(
    data_dir: Path, engine: AsyncEngine, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        await farebox.admin.read("/admins")
    async with engine.connect() as connection:
        query = text(
            "SELECT count(*) FROM pg_stat_activity WHERE "
            "application_name = 'farebox admin' AND datname = current_database()"
        )
        assert await connection.scalar(query) == 0
