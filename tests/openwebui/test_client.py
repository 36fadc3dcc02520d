"""What Open WebUI answers, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio

import pytest

from openwebui import client as client_file
from openwebui.client import OpenWebUIError, open_webui
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI, entry


async def test_its_shapes_are_read(there: FakeOpenWebUI) -> None:
    team = there.group("Größe, 2")
    grace = there.add("Grace Müller", groups=(team,))
    there.shown = [entry("small", 1)]
    async with open_webui(there.url + "/", ADMIN_KEY) as client:
        assert await client.version() == "0.12.4"
        assert await client.uses_ollama() and not await client.direct_connections()
        assert (await client.embedding()).rag_embedding_batch_size == 1
        page = await client.people(1)
        assert page.total == 2 and {each.id: each.group_ids for each in page.users}[grace] == (team,)
        [circle] = await client.circles()
        assert (circle.id, circle.name) == (team, "Größe, 2")
        [shown] = (await client.shown_models()).data
        assert (shown.id, shown.url_index) == ("small", 1)


async def test_a_key_that_is_no_administrators_is_told_as_that(there: FakeOpenWebUI) -> None:
    async with open_webui(there.url, "sk-of-somebody") as client:
        with pytest.raises(OpenWebUIError, match="refuses the admin key") as refused:
            await client.circles()
    assert "sk-of-somebody" not in str(refused.value)


async def test_a_page_of_html_is_no_answer(there: FakeOpenWebUI) -> None:
    async with open_webui(f"{there.url}/somewhere", ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="no Open WebUI"):
            await client.circles()


async def test_an_answer_of_another_shape_is_not_taken(there: FakeOpenWebUI) -> None:
    there.circles = [{"id": 7}]
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="not understood"):
            await client.circles()


async def test_an_error_is_told_with_its_reason(there: FakeOpenWebUI) -> None:
    there.broken["/api/v1/groups/"] = 503
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="503: broken on purpose"):
            await client.circles()


async def test_nobody_there_is_told_as_that() -> None:
    async with open_webui("http://127.0.0.1:9", ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="cannot be reached"):
            await client.version()


async def test_waiting_has_an_end(there: FakeOpenWebUI) -> None:
    there.goes_on = asyncio.Event()
    async with open_webui(there.url, ADMIN_KEY, timeout_s=0.2) as client:
        with pytest.raises(OpenWebUIError, match="in time"):
            await client.people(1)
    there.goes_on.set()


async def test_a_reply_has_a_bound(there: FakeOpenWebUI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_file, "_REPLY_BYTES_MAX", 1000)
    for number in range(10):
        there.group(f"group {number}")
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="longer than"):
            await client.circles()


async def test_places_where_clouds_keep_credentials_are_never_asked() -> None:
    async with open_webui("http://169.254.169.254", ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="credentials"):
            await client.version()
