"""Bodies, before a route sees them."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin_api.body import BODY_MAX
from tests.admin_api.conftest import problem, somebody
from tests.house import ADMIN_KEY, Admin, Farebox


@pytest.fixture
def door(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    return [nested(depth - 1)] if depth else 1


async def endless() -> AsyncIterator[bytes]:
    """More than anybody reads."""
    for _ in range(64):
        yield b" " * 65_536


async def test_a_body_that_is_too_large_is_not_read_to_its_end(door: Admin) -> None:
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    for data in (io.BytesIO(b"x" * (BODY_MAX + 1)), endless()):
        async with door.http.post(f"{door.url}/v1/admins", data=data, headers=headers) as reply:
            assert reply.status == 413


async def test_a_body_is_json_and_says_so(door: Admin) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        answer = await door.post("/admins", somebody("x"), headers={"content-type": kind})
        problem(answer, 415)
        assert answer.headers["accept"] == "application/json"
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await door.post("/admins", somebody("charset"), headers=headers)
    assert answer.status == 201


@pytest.mark.parametrize(
    "body",
    [b"{", b"{}}", b"nonsense", b'{"a": NaN}', b'"\xff"', b"[" * 100_000, b'{"a": "\\ud800"}', b"\x00"],
    ids=lambda body: repr(body[:12]),
)
async def test_a_body_that_is_no_json_is_malformed(door: Admin, body: bytes) -> None:
    problem(await door.post("/admins", body), 400)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"email": "a\0@example.org"}, "#/email"),
        ({"a": [{"b": "x\0"}]}, "#/a/0/b"),
        ({"a\0": 1}, None),
        (nested(50), None),
        (7, "#"),
        ([], "#"),
        (None, "#"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_what_no_database_could_keep_is_refused_by_its_place(door: Admin, body: Any, pointer: str | None) -> None:
    raw = json.dumps(body).encode()
    wrongs = problem(await door.post("/admins", raw), 422).get("errors", [])
    assert pointer is None or pointer in [wrong.get("pointer") for wrong in wrongs]
