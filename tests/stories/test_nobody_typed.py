"""Calls nobody typed, over real sockets: titles on the house, an upload's embeddings, and whose figures are whose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import house
from tests.backend import Backend, Gate, Pause, Script, Seen, embeddings
from tests.backend import chat as chat_answer
from tests.house import Caller, Farebox, until

_CATALOG = """
[[tiers]]
name = "paced"
concurrency = 1
embeddings_concurrency = 4
allowance = { usd = "1.00" }
windows = [{ limit = 3, of = "requests", per = "hour" }]

[[tasks]]
name = "title_generation"
pays = "house"
cap = { usd = "0.01", every = "day" }

[[tasks]]
name = "tags_generation"
model = "small"
factor = "0.5"
"""
_UPLOAD = 43  # what one file of 40 KB sends within 10 ms


@pytest.fixture
async def paced(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(
        data_dir, database_url, redis_url, backend.url, catalog=_CATALOG, default_tier="paced", limits={"queue_s": 60}
    ) as running:
        yield running
        await running.settled()
        assert await running.broken() == []


def as_user(key: str, user: str, **labels: str) -> dict[str, str]:
    """What Open WebUI sends for a user."""
    named = {"authorization": f"Bearer {key}", "x-openwebui-user-id": user, "x-openwebui-user-name": user}
    return named | {f"x-openwebui-{name.replace('_', '-')}": value for name, value in labels.items()}


async def embed(farebox: Farebox, headers: dict[str, str] | Caller, text: str = "a piece of a file") -> int:
    return (await farebox.post("/v1/embeddings", {"model": "embed", "input": text}, headers)).status


def slow_embeddings(open_at_once: list[int]) -> Any:
    """Answers that take a moment, and how many were wanted at once."""
    running = 0

    def answer(seen: Seen) -> Script:
        nonlocal running
        running += 1
        open_at_once.append(running)
        yield Pause(0.02)
        running -= 1
        yield from embeddings()(seen)

    return answer


async def test_an_upload_is_embedded_a_few_at_a_time_and_takes_nobodys_place(paced: Farebox, backend: Backend) -> None:
    key, at_once = await paced.service(), list[int]()
    ada, bob = as_user(key, "ada"), as_user(key, "bob")
    backend.answer = slow_embeddings(at_once)
    upload = asyncio.gather(*(embed(paced, ada) for _ in range(_UPLOAD)))
    await backend.arrived()
    # Another user's single embedding does not stand behind the upload.
    assert await asyncio.wait_for(embed(paced, bob), 30) == 200
    assert await upload == [200] * _UPLOAD
    assert max(at_once) <= 4 + 1
    backend.answer = chat_answer()
    assert [(await paced.chat(ada)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_who_leaves_the_line_is_gone_and_nothing_was_held(paced: Farebox, backend: Backend) -> None:
    key, gate = await paced.service(), asyncio.Event()
    ada = as_user(key, "ada")
    backend.answer = lambda seen: [Gate(gate), *embeddings()(seen)]
    running = [asyncio.create_task(embed(paced, ada)) for _ in range(4)]
    await backend.arrived(4)
    waiting = [asyncio.create_task(embed(paced, ada)) for _ in range(3)]
    queue = paced.run.gateway._queue
    assert queue is not None

    async def in_line(count: int) -> bool:
        return queue.waiting == count

    await until(lambda: in_line(3))
    (holds,) = await paced.rows("SELECT count(*) AS n FROM holds")
    assert holds["n"] == 4
    waiting[1].cancel()
    await until(lambda: in_line(2))
    gate.set()
    assert [await each for each in (*running, waiting[0], waiting[2])] == [200] * 6
    await paced.settled()
    assert len(await paced.charges()) == 6


async def test_a_drain_ends_every_wait(paced: Farebox, backend: Backend) -> None:
    key, gate = await paced.service(), asyncio.Event()
    ada = as_user(key, "ada")
    backend.answer = lambda seen: [Gate(gate), *embeddings()(seen)]
    running = [asyncio.create_task(embed(paced, ada)) for _ in range(4)]
    await backend.arrived(4)
    waiting = asyncio.create_task(embed(paced, ada))
    queue = paced.run.gateway._queue
    assert queue is not None

    async def in_line() -> bool:
        return queue.waiting == 1

    await until(in_line)
    drain = asyncio.create_task(paced.run.gateway.drain(60))
    assert await asyncio.wait_for(waiting, 30) == 429
    gate.set()
    assert [await each for each in running] == [200] * 4
    assert await drain


async def test_a_title_is_on_the_house_and_a_forged_one_from_a_plain_key_is_nothing(paced: Farebox) -> None:
    key = await paced.service()
    ada = as_user(key, "ada", chat_id="c-1", message_id="m-1")
    title = as_user(key, "ada", chat_id="c-1", task="title_generation")
    assert [(await paced.chat(each)).status for each in (ada, title)] == [200, 200]
    eve = await paced.caller(tier="paid", name="Eve")
    assert (await paced.chat(eve.headers | {"x-openwebui-task": "title_generation"})).status == 200
    await paced.settled()
    charges = [(charge["task"], charge["house"]) for charge in await paced.charges()]
    assert charges == [("", False), ("title_generation", True), ("", False)]

    async def told_apart() -> bool:
        """By task, and by tier: the house bore Ada's title, and nothing of Eve's."""
        stats = await paced.admin.read("/stats/usage", group_by="task")
        return {row["label"]: row["house_cost"] != "0.0000" for row in stats["data"]} == {
            "": False,
            "title_generation": True,
        }

    await until(told_apart)


async def test_a_discounted_task_is_answered_by_a_cheaper_model(paced: Farebox, backend: Backend) -> None:
    key = await paced.service()
    tags = as_user(key, "ada", task="tags_generation")
    assert (await paced.chat(tags, model="large")).status == 200
    assert backend.requests[-1].json["model"] == "small"
    await paced.settled()
    [charge] = await paced.charges()
    assert (charge["model"], charge["factor_ppm"]) == ("small", 500_000)


async def read(farebox: Farebox, path: str, headers: dict[str, str]) -> Any:
    answer = await farebox.get(path, headers)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_the_cost_of_a_chat_and_of_an_answer_is_their_own_users_to_read(paced: Farebox) -> None:
    key = await paced.service()
    # Both name the same chat and the same answer; Bob's labels are forged.
    for user in ("ada", "ada", "bob"):
        assert (await paced.chat(as_user(key, user, chat_id="c-1", message_id=f"m-{user}"))).status == 200
    assert (await paced.chat(as_user(key, "ada", chat_id="c-1", task="title_generation"))).status == 200
    await paced.settled()
    mine = {user: as_user(key, user) for user in ("ada", "bob")}
    costs = {user: await read(paced, "/v1/account/usage?chat_id=c-1", mine[user]) for user in mine}
    assert [costs[user]["data"][0]["calls"] for user in mine] == [3, 1]
    ada = costs["ada"]["data"][0]
    one = str(ada["house_cost"])
    assert float(ada["cost"]) == pytest.approx(2 * float(one)) and float(one) > 0
    assert (await read(paced, "/v1/account/usage?message_id=m-bob", mine["ada"]))["data"][0]["calls"] == 0
    by_task = await read(paced, "/v1/account/usage?group_by=task", mine["ada"])
    assert [(row["task"], row["calls"]) for row in by_task["data"]] == [("", 2), ("title_generation", 1)]
    chats = await read(paced, "/v1/account/usage?group_by=chat", mine["bob"])
    assert [(row["chat"], row["calls"]) for row in chats["data"]] == [("c-1", 1)]
    entries = {user: (await read(paced, "/v1/account/ledger", mine[user]))["data"] for user in mine}
    kinds = [[entry["kind"] for entry in entries[user]] for user in mine]
    assert kinds == [["charge", "charge", "grant"], ["charge", "grant"]]
    listed = await paced.admin.read("/charges", message="m-bob")
    assert len(listed["data"]) == 1


async def test_lists_of_ones_own_come_in_pages_and_wrong_questions_are_told(paced: Farebox) -> None:
    eve = await paced.caller(tier="paid", name="Eve")
    for model in ("small", "large", "flat"):
        assert (await paced.chat(eve, model=model)).status == 200
    await paced.settled()
    for path, key in (("/v1/account/usage?group_by=model&limit=2", "model"), ("/v1/account/ledger?limit=2", "id")):
        first = await read(paced, path, eve.headers)
        assert first["has_more"] and len(first["data"]) == 2
        second = await read(paced, f"{path}&cursor={first['next_cursor']}", eve.headers)
        assert not {row[key] for row in first["data"]} & {row[key] for row in second["data"]} and second["data"]
        other = "/v1/account/ledger" if key == "model" else "/v1/account/usage?group_by=chat"
        sep = "&" if "?" in other else "?"
        assert (await paced.get(f"{other}{sep}cursor={first['next_cursor']}", eve)).status == 400
    for wrong in (
        "usage?group_by=user",
        "usage?since=yesterday",
        "usage?since=2020-01-01T00:00:00Z",
        "usage?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
        "usage?chat_id=",
        "usage?limit=0",
        "usage?limit=1e9",
        "usage?cursor=%00",
        "usage?group_by=chat&cursor=dXNhZ2U6Y2hhdApub3QtYW4taWQ",
        "ledger?currency=eur",
        "ledger?cursor=AAAA",
    ):
        answer = await paced.get(f"/v1/account/{wrong}", eve)
        assert (answer.status, answer.error["code"]) == (400, "invalid_request"), wrong
    assert (await paced.get("/v1/account/usage")).status == 401
    assert (await paced.get("/v1/account/ledger?currency=tokens", eve)).json()["data"] == []


async def test_explain_and_account_tell_the_rules(paced: Farebox) -> None:
    key = await paced.service()
    account = await read(paced, "/v1/account", as_user(key, "ada"))
    assert [(each["name"], each["lane"], each["limit"]) for each in account["limits"]] == [("requests/3600", "own", 3)]
    beside = {each["name"]: (each["lane"], each["limit"]) for each in account["limits_beside"]}
    assert beside == {"tasks/requests/3600": ("tasks", 12), "embeddings/requests/3600": ("embeddings", 150)}
    assert account["concurrency_beside"] == {"tasks": 4, "embeddings": 4}
    [budget] = account["budgets"]
    assert (budget["of"], budget["task"], budget["left"]) == ("task", "title_generation", "0.0100")
    assert [rule["name"] for rule in account["tasks"]] == ["tags_generation", "title_generation"]
    told = await paced.admin.read(f"/users/{account['id']}/explain", model="large", task="title_generation")
    rules = {rule["name"]: rule for rule in told["rules"]}
    assert told["can_make_request"] and rules["task"]["says"].startswith("Its rule is title_generation. The house pays")
    assert rules["balance"]["says"] == "The house pays for this task."
    assert rules["task_budget"]["detail"]["left"] == "0.0100"
    assert rules["window"]["detail"]["window"] == "tasks/requests/3600"
    told = await paced.admin.read(f"/users/{account['id']}/explain", model="large", task="tags_generation")
    says = {rule["name"]: rule["says"] for rule in told["rules"]}["task"]
    assert says == "Its rule is tags_generation. The caller pays, at 0.5 of the price. small answers in place of large."
    limits = await paced.admin.read(f"/users/{account['id']}/limits")
    assert [each["name"] for each in limits["windows_beside"]] == ["tasks/requests/3600", "embeddings/requests/3600"]
