"""Opens what syncs beside a running gateway, and closes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from accounts.store_sql import Accounts
from config.settings import Settings
from ledger.engine import make_engine
from openwebui.sync import Sync

_STATEMENT_S = 60.0
_POOL = 3


@asynccontextmanager
async def open_sync(settings: Settings, database_url: str, pepper: bytes) -> AsyncIterator[Sync | None]:
    """What syncs beside a gateway, on a small pool of its own; None where the settings name no Open WebUI."""
    if not settings.openwebui.syncs:
        yield None
        return
    engine = make_engine(
        database_url, size=_POOL, command_timeout_s=_STATEMENT_S, name="farebox open webui", ask_first=True
    )
    try:
        accounts = Accounts(
            engine, pepper=pepper, default_tier=settings.default_tier, default_language=settings.default_language
        )
        sync = Sync(
            settings.openwebui,
            engine=engine,
            accounts=accounts,
            default_tier=settings.default_tier,
            service_url=service_url(settings),
        )
        try:
            yield sync
        finally:
            await sync.aclose()
    finally:
        await engine.dispose()


def service_url(settings: Settings) -> str:
    """By which Open WebUI reaches the gateway, unless its connection says otherwise: then its key tells."""
    return f"{settings.public_url.rstrip('/')}/v1"
