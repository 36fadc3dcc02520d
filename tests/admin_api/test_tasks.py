"""Rules for tasks over the API: one object from its creation to its end, and each refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_api.conftest import logged_in
from tests.house import Admin, Answer, Farebox

FULL: dict[str, Any] = {
    "pays": "house",
    "factor": "0.5",
    "cap": {"usd": "0.0200", "every": "week", "zone": "Europe/Berlin"},
    "model": "small",
}


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def errors(answer: Answer) -> dict[str, str]:
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


async def test_a_rule_is_made_read_changed_retired_and_restored(admin: Admin) -> None:
    answer = await admin.post("/tasks", {"name": "title_generation", **FULL})
    assert answer.status == 201, answer.body
    assert (answer.headers["etag"], answer.headers["location"]) == ('"1"', "/admin/api/v1/tasks/title_generation")
    made = answer.json()
    assert {name: made[name] for name in ("name", *FULL)} == {"name": "title_generation", **FULL}
    changed = await admin.patch("/tasks/title_generation", {"pays": "caller", "cap": None}, match='"1"')
    assert (changed.json()["pays"], changed.json()["cap"], changed.json()["version"]) == ("caller", None, 2)
    assert (await admin.delete("/tasks/title_generation", match='"2"')).status == 204
    assert "title_generation" not in [rule["name"] for rule in (await admin.read("/tasks"))["data"]]
    assert (await admin.read("/tasks/title_generation"))["retired_at"]
    restored = await admin.made("/tasks/title_generation/restore")
    assert restored["retired_at"] is None and restored["version"] == 4


async def test_a_pattern_is_a_name_like_any_other(admin: Admin) -> None:
    answer = await admin.post("/tasks", {"name": "*", "factor": "0.9"})
    assert (answer.status, answer.headers["location"]) == (201, "/admin/api/v1/tasks/%2A")
    assert (await admin.read("/tasks/*"))["factor"] == "0.9"
    assert (await admin.read("/tasks", search="*"))["data"][0]["name"] == "*"


async def test_no_rule_makes_a_task_free(admin: Admin) -> None:
    for body, where in (
        ({"factor": "0"}, "#/factor"),
        ({"factor": "0.09"}, "#/factor"),
        ({"factor": "1.1"}, "#/factor"),
        ({"pays": "house"}, "#"),
        ({"cap": {"usd": "1"}}, "#"),
        ({"pays": "house", "cap": {"usd": "1", "every": "never"}}, "#/cap/every"),
        ({"model": "embed"}, "#/model"),
        ({"model": "nobody"}, "#/model"),
    ):
        answer = await admin.post("/tasks", {"name": "wrong", **body})
        assert answer.status == 422, (body, answer.body)
        assert any(pointer.startswith(where) for pointer in errors(answer)), (body, errors(answer))


async def test_a_model_that_answers_tasks_is_not_retired_beneath_them(admin: Admin) -> None:
    await admin.made("/models", {"id": "cheap", "upstream": "main", "prices": {"input": "0.01", "output": "0.01"}})
    await admin.made("/tasks", {"name": "tags_generation", "model": "cheap"})
    refused = await admin.delete("/models/cheap", match='"1"')
    assert refused.status == 409 and refused.json()["used_by"] == ["task tags_generation (it is answered by it)"]
    await admin.delete("/tasks/tags_generation", match='"1"')
    assert (await admin.delete("/models/cheap", match='"1"')).status == 204
    # And it does not come back without its model.
    assert (await admin.post("/tasks/tags_generation/restore")).status == 409


async def test_the_file_says_it_in_the_same_words(admin: Admin) -> None:
    await admin.made("/tasks", {"name": "emoji_generation", "pays": "house", "cap": {"usd": "0.01"}})
    text = (await admin.get("/catalog.toml")).body.decode()
    assert '[[tasks]]\nname = "emoji_generation"\npays = "house"\ncap = { usd = "0.0100" }\n' in text


async def test_support_reads_and_does_not_write(admin: Admin) -> None:
    support = await logged_in(admin, "support")
    assert (await support.get("/tasks")).status == 200
    assert (await support.post("/tasks", {"name": "x"})).status == 403
