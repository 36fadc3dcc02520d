"""Logging in and out over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from admin_api.logins import PER_EMAIL
from tests.admin_api.conftest import PASSWORD, Login
from tests.house import Admin, Answer, Farebox

EMAIL = "ada@example.org"


@pytest.fixture
async def ada(admin: Admin) -> Admin:
    """A client without a bearer; Ada, an admin, has an account."""
    await admin.made("/admins", {"email": EMAIL, "role": "admin", "password": PASSWORD})
    return admin.bearing(None)


async def log_in(client: Admin, password: str = PASSWORD, email: str = EMAIL) -> Answer:
    return await client.post("/auth/login", {"email": email, "password": password})


async def tokens_of(client: Admin) -> Any:
    """The tokens of a login that has to succeed."""
    answer = await log_in(client)
    assert answer.status == 200, answer.body
    return answer.json()


async def renew(client: Admin, token: str) -> Answer:
    return await client.post("/auth/refresh", {"refresh_token": token})


async def test_a_login_gives_two_tokens_and_a_session(ada: Admin) -> None:
    tokens = await tokens_of(ada)
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    me = await ada.bearing(tokens["access_token"]).read("/auth/me")
    assert (me["name"], me["role"], me["session_id"]) == (EMAIL, "admin", tokens["session_id"])
    assert me["admin"]["email"] == EMAIL and me["admin"]["last_login_at"] is not None


async def test_the_admin_key_is_an_owner_without_account_session_or_password(admin: Admin) -> None:
    assert await admin.read("/auth/me") == {"name": "admin-key", "role": "owner", "admin": None, "session_id": None}
    assert await admin.read("/auth/sessions") == {"data": []}
    assert (await admin.post("/auth/logout")).status == 204
    assert (await admin.put("/auth/password", {"current": "x", "password": PASSWORD})).status == 403
    assert (await admin.delete(f"/auth/sessions/{uuid4()}")).status == 404


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(ada: Admin) -> None:
    wrong, unknown = await log_in(ada, "wrong"), await log_in(ada, "wrong", "nobody@example.org")
    assert wrong.status == unknown.status == 401
    told = [{**answer.json(), "instance": ""} for answer in (wrong, unknown)]
    assert told[0] == told[1] and wrong.headers.keys() == unknown.headers.keys()


async def test_an_unknown_address_costs_the_same_work(
    ada: Admin, farebox: Farebox, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []

    def verify(self: PasswordHasher, stored: str, password: str) -> bool:
        work.append(stored)
        return False

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    await log_in(ada, "wrong")
    await log_in(ada, "wrong", "nobody@example.org")
    assert [stored.rpartition("$")[0].rpartition("$")[0] for stored in work] == ["$argon2id$v=19$m=65536,t=3,p=4"] * 2
    rows = await farebox.rows("SELECT outcome FROM admin_logins")
    assert [row["outcome"] for row in rows] == ["wrong", "wrong"]


async def test_after_ten_wrong_tries_also_the_right_password_waits(ada: Admin, farebox: Farebox) -> None:
    answers = [await log_in(ada, "wrong") for _ in range(PER_EMAIL)]
    assert [answer.status for answer in answers] == [401] * PER_EMAIL
    locked = await log_in(ada)
    assert locked.status == 429 and 800 < int(locked.headers["retry-after"]) <= 901
    async with farebox.engine.begin() as connection:
        await connection.execute(text("UPDATE admin_logins SET at = at - interval '15 minutes'"))
    assert (await log_in(ada)).status == 200


async def test_many_guesses_at_once_are_counted_like_guesses(ada: Admin) -> None:
    answers = await asyncio.gather(*(log_in(ada, f"guess {number}") for number in range(40)))
    assert {answer.status for answer in answers} <= {401, 429, 503}
    assert sum(answer.status == 401 for answer in answers) <= PER_EMAIL
    assert all("retry-after" in answer.headers for answer in answers if answer.status != 401)


async def test_a_refresh_token_is_good_once_and_used_twice_it_ends_the_session(ada: Admin, admin: Admin) -> None:
    first = await tokens_of(ada)
    second = (await renew(ada, first["refresh_token"])).json()
    bearer = ada.bearing(second["access_token"])
    assert (await bearer.get("/auth/me")).status == 200 and second["session_id"] == first["session_id"]
    assert (await renew(ada, first["refresh_token"])).status == 401
    assert (await bearer.get("/auth/me")).status == 401
    assert (await renew(ada, second["refresh_token"])).status == 401
    outcomes = [each["outcome"] for each in (await admin.read("/auth/logins"))["data"]]
    assert outcomes == ["reused", "ok"]
    assert (await admin.read("/audit", action="session.reused"))["data"][0]["actor"] == EMAIL


@pytest.mark.parametrize("token", ["x", "fbr_" + "A" * 90, "é"])
async def test_a_refresh_token_that_was_never_ours_ends_nothing(ada: Admin, token: str) -> None:
    tokens = await tokens_of(ada)
    assert (await renew(ada, token)).status == 401
    assert (await ada.bearing(tokens["access_token"]).get("/auth/me")).status == 200


async def test_a_refresh_token_is_no_bearer_and_an_access_token_renews_nothing(ada: Admin) -> None:
    tokens = await tokens_of(ada)
    assert (await ada.bearing(tokens["refresh_token"]).get("/auth/me")).status == 401
    assert (await renew(ada, tokens["access_token"])).status == 401


async def test_logging_out_ends_this_session_alone(ada: Admin) -> None:
    here, there = await tokens_of(ada), await tokens_of(ada)
    assert (await ada.bearing(here["access_token"]).post("/auth/logout")).status == 204
    assert (await ada.bearing(here["access_token"]).get("/auth/me")).status == 401
    assert (await renew(ada, here["refresh_token"])).status == 401
    assert (await ada.bearing(there["access_token"]).get("/auth/me")).status == 200


async def test_sessions_are_seen_and_ended_by_their_owner(ada: Admin, login: Login) -> None:
    here, there = await tokens_of(ada), await tokens_of(ada)
    bearer = ada.bearing(here["access_token"])
    live = (await bearer.read("/auth/sessions"))["data"]
    assert [(each["id"], each["current"]) for each in live] == [
        (there["session_id"], False),
        (here["session_id"], True),
    ]
    stranger = await login("owner")
    assert (await stranger.delete(f"/auth/sessions/{there['session_id']}")).status == 404
    assert (await bearer.delete(f"/auth/sessions/{there['session_id']}")).status == 204
    assert (await bearer.delete(f"/auth/sessions/{there['session_id']}")).status == 404
    assert (await ada.bearing(there["access_token"]).get("/auth/me")).status == 401


async def test_another_password_ends_every_session_and_begins_one(ada: Admin, admin: Admin) -> None:
    here, there = await tokens_of(ada), await tokens_of(ada)
    bearer = ada.bearing(here["access_token"])
    change = {"current": PASSWORD, "password": "a new password"}
    answer = await bearer.put("/auth/password", change)
    assert answer.status == 200, answer.body
    assert [(await ada.bearing(each["access_token"]).get("/auth/me")).status for each in (here, there)] == [401, 401]
    assert (await ada.bearing(answer.json()["access_token"]).get("/auth/me")).status == 200
    assert ((await log_in(ada)).status, (await log_in(ada, "a new password")).status) == (401, 200)
    assert (await admin.read("/audit", action="admin.password"))["data"][0]["actor"] == EMAIL


async def test_ones_password_is_changed_with_the_old_one_only(ada: Admin) -> None:
    bearer = ada.bearing((await tokens_of(ada))["access_token"])
    for change, status in (
        ({"current": "wrong", "password": "a new password"}, 401),
        ({"current": PASSWORD, "password": "short"}, 422),
        ({"current": PASSWORD, "password": "aaaaaaaaaaaaaa"}, 422),
        ({"password": "a new password"}, 422),
    ):
        assert (await bearer.put("/auth/password", change)).status == status
    for _ in range(PER_EMAIL):
        await bearer.put("/auth/password", {"current": "wrong", "password": "a new password"})
    assert (await bearer.put("/auth/password", {"current": PASSWORD, "password": "a new password"})).status == 429
    assert (await bearer.get("/auth/me")).status == 200


@pytest.mark.parametrize(
    "news", [{"status": "suspended"}, {"role": "support"}, {"password": "another good one"}], ids=str
)
async def test_what_an_owner_changes_bites_at_once(ada: Admin, admin: Admin, news: dict[str, str]) -> None:
    tokens = await tokens_of(ada)
    (account,) = (await admin.read("/admins"))["data"]
    assert (await admin.patch(f"/admins/{account['id']}", news, match='"1"')).status == 200
    assert (await ada.bearing(tokens["access_token"]).get("/auth/me")).status == 401
    assert (await renew(ada, tokens["refresh_token"])).status == 401


async def test_a_suspended_admin_is_told_so_with_the_right_password_only(ada: Admin, admin: Admin) -> None:
    (account,) = (await admin.read("/admins"))["data"]
    await admin.patch(f"/admins/{account['id']}", {"status": "suspended"}, match='"1"')
    assert ((await log_in(ada, "wrong")).status, (await log_in(ada)).status) == (401, 403)
    assert [each["outcome"] for each in (await admin.read("/auth/logins"))["data"]] == ["suspended", "wrong"]


async def test_everybody_sees_their_own_history(ada: Admin, login: Login) -> None:
    stranger = await login("support")
    await log_in(ada, "wrong")
    bearer = ada.bearing((await tokens_of(ada))["access_token"])
    assert [each["outcome"] for each in (await bearer.read("/auth/logins"))["data"]] == ["ok", "wrong"]
    assert [each["outcome"] for each in (await stranger.read("/auth/logins"))["data"]] == ["ok"]
    assert len((await bearer.get("/auth/logins", format="csv")).body.splitlines()) == 3


async def test_a_hash_of_other_parameters_is_replaced_at_the_next_login(ada: Admin, farebox: Farebox) -> None:
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    async with farebox.engine.begin() as connection:
        await connection.execute(text("UPDATE admins SET password_hash = :cheap"), {"cheap": cheap})
    tokens = await tokens_of(ada)
    (row,) = await farebox.rows("SELECT password_hash FROM admins")
    assert row["password_hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert (await ada.bearing(tokens["access_token"]).get("/auth/me")).status == 200


async def test_wrong_bearers_from_one_address_wait(admin: Admin, farebox: Farebox) -> None:
    answers = [await admin.bearing(f"guess {number}").get("/auth/me") for number in range(21)]
    assert [answer.status for answer in answers] == [401] * 20 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await admin.get("/auth/me")).status == 429


async def test_no_log_line_has_a_secret(
    ada: Admin, admin: Admin, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("DEBUG", "farebox"):
        tokens = await tokens_of(ada)
        await log_in(ada, "hunter2 is wrong")
        await renew(ada, tokens["refresh_token"])
        await renew(ada, tokens["refresh_token"])
    out, err = capfd.readouterr()
    said = caplog.text + out + err + str([vars(record) for record in caplog.records])
    for secret in (PASSWORD, "hunter2", tokens["access_token"], tokens["refresh_token"], str(admin.bearer)):
        assert secret not in said
