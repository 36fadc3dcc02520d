"""Everybody is read, or nobody."""

from __future__ import annotations

import asyncio

import pytest

from openwebui import reading
from openwebui.client import OpenWebUIError, open_webui
from openwebui.reading import take_census
from tests.openwebui.fake import ADMIN_KEY, PAGE, FakeOpenWebUI


@pytest.mark.parametrize("more", [0, PAGE - 1, PAGE, 3 * PAGE])
async def test_all_pages_are_read(there: FakeOpenWebUI, more: int) -> None:
    for number in range(more):
        there.add(f"u{number:03}")
    team = there.group("team")
    async with open_webui(there.url, ADMIN_KEY) as client:
        census = await take_census(client)
    assert set(census.people) == {each["id"] for each in there.users}
    assert set(census.circles) == {team}


async def test_a_list_that_changes_while_it_is_read_is_read_again(there: FakeOpenWebUI) -> None:
    for number in range(PAGE + 5):
        there.add(f"u{number:03}")
    left = there.users[3]["id"]
    pages = 0

    class Leaving(list):  # type: ignore[type-arg]
        """Somebody leaves between the first page and the second."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal pages
            pages += 1
            if pages == 2:
                self[:] = [each for each in list.__iter__(self) if each["id"] != left]
            return super().__iter__()

    there.users = Leaving(there.users)
    async with open_webui(there.url, ADMIN_KEY) as client:
        census = await take_census(client)
    assert pages == 4 and left not in census.people and len(census.people) == PAGE + 5


async def test_nobody_at_all_is_not_believed(there: FakeOpenWebUI) -> None:
    there.users = []
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="no users at all"):
            await take_census(client)


async def test_a_page_that_breaks_off_raises(there: FakeOpenWebUI) -> None:
    for number in range(PAGE + 5):
        there.add(f"u{number:03}")
    there.broken["/api/v1/users/?page=2&order_by=email&direction=asc"] = 502
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="502"):
            await take_census(client)


async def test_reading_has_an_end(there: FakeOpenWebUI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LONGEST_S", 0.2)
    there.goes_on = asyncio.Event()
    async with open_webui(there.url, ADMIN_KEY) as client:
        with pytest.raises(OpenWebUIError, match="could not be read within"):
            await take_census(client)
    there.goes_on.set()
