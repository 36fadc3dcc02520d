"""What syncs beside a gateway is there only where the settings name an Open WebUI."""

from __future__ import annotations

from pathlib import Path

from ledger.audit import Actor
from openwebui.opening import open_sync, service_url
from tests import house
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI


async def test_without_an_address_there_is_none(data_dir: Path, database_url: str, redis_url: str) -> None:
    settings = house.settings(data_dir, database_url, redis_url)
    async with open_sync(settings, database_url, b"p" * 32) as sync:
        assert sync is None
    assert service_url(settings) == "https://fare.example/v1"


async def test_what_was_begun_ends_with_it(
    data_dir: Path, database_url: str, redis_url: str, there: FakeOpenWebUI
) -> None:
    told = {"url": there.url, "admin_key": ADMIN_KEY}
    settings = house.settings(data_dir, database_url, redis_url, openwebui=told)
    async with open_sync(settings, database_url, b"p" * 32) as sync:
        assert sync is not None
        assert (await sync.run()).outcome == "done"
        begun = sync.begin(Actor("tester"))
    assert begun.done()
