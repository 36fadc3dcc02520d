"""A story with known secrets, told at the highest level of the log and with every error there is: none comes out."""

from __future__ import annotations

import re
from pathlib import Path

import jwt
import pytest

from tests.backend import Backend, Close, Cut, chat, error
from tests.house import ADMIN_KEY, PEPPER, Farebox
from tests.process import Served, command, environment, reach, served

UPSTREAM_KEY = "sk-upstream-known-0123456789"
HEADER_SECRET = "header-known-0123456789"
PASSWORD = "correct horse battery known"
DATABASE_PASSWORD = "database-known-0123456789"
OPENWEBUI_SECRET = "openwebui-known-0123456789abcdef0123"
PROMPT = "prompt-known-0123456789"


async def told(farebox: Farebox, backend: Backend) -> tuple[list[str], list[bytes]]:
    """Every kind of call, login and mistake; the secrets made on the way, and every answer."""
    ada, service = await farebox.caller(), await farebox.service()
    token = jwt.encode({"iss": "open-webui", "sub": "u1", "exp": 4_000_000_000}, OPENWEBUI_SECRET, algorithm="HS256")
    admin, answers = farebox.admin, []
    account = {"email": "owner@example.org", "role": "owner", "password": PASSWORD}
    answers.append((await admin.post("/admins", account)).body)
    login = await admin.bearing(None).post("/auth/login", {"email": "owner@example.org", "password": PASSWORD})
    tokens = login.json()
    secrets = [ada.key, service, token, tokens["access_token"], tokens["refresh_token"]]
    backend.then(chat(), error(401, f"Incorrect API key provided: {PROMPT}"), error(500, PROMPT), [Cut()], [Close()])
    for _ in range(5):
        answers.append((await farebox.chat(ada, PROMPT)).body.replace(PROMPT.encode(), b""))
    signed = {"authorization": f"Bearer {service}", "x-openwebui-user-jwt": token}
    answers.append((await farebox.chat(signed, PROMPT, stream=True)).body)
    answers.append((await farebox.chat({**signed, "x-openwebui-user-jwt": token[:-4]}, PROMPT)).body)
    for wrong in (f"{ada.key}x", token, tokens["access_token"], ADMIN_KEY, "sk-fb-none"):
        answers.append((await farebox.chat({"authorization": f"Bearer {wrong}"}, PROMPT)).body)
        answers.append((await admin.bearing(f"{wrong[:-1]}").get("/users")).body)
    wrong_login = {"email": "owner@example.org", "password": f"{PASSWORD}!"}
    answers.append((await admin.bearing(None).post("/auth/login", wrong_login)).body)
    answers.append((await admin.bearing(None).post("/auth/refresh", {"refresh_token": tokens["access_token"]})).body)
    answers.append((await admin.post("/auth/login", b'{"password": "' + PASSWORD.encode())).body)
    header = {"name": "other", "base_url": "https://backend.example", "headers": {"x-api-token": HEADER_SECRET}}
    await admin.made("/upstreams", header)
    answers.append((await admin.post("/upstreams", {**header, "base_url": f"http://u:{HEADER_SECRET}@h"})).body)
    for path in ("/audit", "/logs", "/users", "/keys", "/admins", f"/users/{ada.user.id}/explain?model=small"):
        answers.append((await admin.get(path)).body)
    answers.append((await farebox.get("/metrics")).body)
    await farebox.settled()
    return secrets, answers


def everything_in(folder: Path) -> str:
    """All that a process wrote to its outputs."""
    return "".join(path.read_text("utf-8", "replace") for path in sorted(folder.glob("log-*")))


async def kept(farebox: Served) -> str:
    """All that the database holds, but for the headers of upstreams, which are there to be sent."""
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = :space"
    (space,) = await farebox.rows("SELECT 'public'::regnamespace::oid::int AS oid")
    tables = {row["relname"] for row in await farebox.rows(query, space=space["oid"])} - {"upstreams"}
    rows = [await farebox.rows(f"SELECT t::text AS line FROM {table} t") for table in sorted(tables)]
    return "\n".join(row["line"] for some in rows for row in some)


@pytest.mark.timeout(180)
async def test_no_secret_comes_out_anywhere(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    with_password = re.sub(r"//([^:@/]+)(:[^@]*)?@", rf"//\1:{DATABASE_PASSWORD}@", database_url)
    assert DATABASE_PASSWORD in with_password
    more = {"LOG_LEVEL": "debug", "OPENWEBUI__JWT_SECRET": OPENWEBUI_SECRET}
    env = environment(data_dir, with_password, redis_url, backend.url, **more)
    env |= {"FAREBOX_TEST_UPSTREAM_KEY": UPSTREAM_KEY, "PYTHONASYNCIODEBUG": "1"}
    async with reach(database_url) as outside, served(env, outside) as running:
        made, answers = await told(running, backend)
        rows = await kept(running)
        doctor = await command(env, "doctor")
        running.process.terminate()
        assert await running.ended() == 0
    wrong = await command(env | {"FAREBOX_DATABASE_URL": with_password.replace("127.0.0.1", "127.0.0.9")}, "verify")
    known = [UPSTREAM_KEY, PEPPER, ADMIN_KEY, PASSWORD, DATABASE_PASSWORD, OPENWEBUI_SECRET, PROMPT, *made]
    places = {
        "the log": everything_in(data_dir.parent),
        "an answer": b"\n".join(answers).decode(),
        "the tables": rows,
        "the doctor": "".join(map(str, doctor)),
        "a refusal to start": "".join(map(str, wrong)),
    }
    assert "call" in places["the log"] and "owner@example.org" in places["an answer"]
    for place, text in places.items():
        for secret in known:
            assert secret not in text, f"{secret} stands in {place}"
            assert secret[:-8] not in text, f"most of {secret} stands in {place}"
    assert HEADER_SECRET not in places["the log"] + places["the tables"]
