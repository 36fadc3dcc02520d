"""One sync: an Open WebUI's people, groups and models, brought here. One at a time, whichever replica was asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

import asyncpg
from msgspec.structs import replace
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store import audited
from accounts.store_sql import Accounts, AccountsUnavailable
from config.catalog_sql import CatalogError
from config.parts import OpenWebUI as OpenWebUISettings
from ledger.audit import Actor, Change
from ledger.system_events import Level, record
from openwebui.census import Census
from openwebui.client import OpenWebUI, OpenWebUIError, open_webui
from openwebui.difference import Difference, Offer, difference
from openwebui.doing import Doing
from openwebui.kept import Kept
from openwebui.mirror_sql import Mirror
from openwebui.reading import take_census
from openwebui.report import LINES_MAX, OfferedMerge, Report, lines_of, refusal
from openwebui.showing import Showing

BY_ITSELF = Actor("open-webui sync", "system")
"""Who does what a sync does that nobody asked for."""

_LOCK = 0x66626F77  # "fbow"
_AWAY = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, AccountsUnavailable)

_log = logging.getLogger("farebox.openwebui")

Client = Callable[[], AbstractAsyncContextManager[OpenWebUI]]
Asked = asyncio.Task[Report]


class Sync:
    """What a sync works with. ``service_url`` is the address by which Open WebUI reaches Farebox (``…/v1``)."""

    def __init__(
        self,
        settings: OpenWebUISettings,
        *,
        engine: AsyncEngine,
        accounts: Accounts,
        default_tier: str,
        service_url: str,
        client: Client | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._accounts = accounts
        self._client = client or (lambda: _client(settings))
        self._showing = Showing(engine, accounts, default_tier, service_url)
        self._asked = set[asyncio.Task[Report]]()
        self.mirror = Mirror(engine, settings.realm)

    async def lately(self) -> bool:
        """Whether a sync went well within the last half of the period: another replica's clock was first."""
        try:
            last = await self.mirror.last_report()
        except _AWAY:
            return False
        if last is None or last.outcome not in ("done", "unchanged"):
            return False
        return (datetime.now(UTC) - last.at).total_seconds() < self._settings.sync_every_s / 2

    def begin(self, by: Actor, *, dry_run: bool = False, force: bool = False, grants: bool | None = None) -> Asked:
        """As ``run``, in a task that goes on when nobody waits for it any more."""
        task = asyncio.create_task(
            self.run(by, dry_run=dry_run, force=force, grants=grants), name="openwebui-sync-asked"
        )
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return task

    async def aclose(self) -> None:
        """Break off what was begun."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def run(
        self, by: Actor = BY_ITSELF, *, dry_run: bool = False, force: bool = False, grants: bool | None = None
    ) -> Report:
        """Sync now, and keep how it went; a dry run changes nothing and keeps nothing. Never raises for what an Open
        WebUI or a database does: the report says it."""
        begun, at = time.monotonic(), datetime.now(UTC)
        wants_grants = self._settings.grants if grants is None else grants
        try:
            async with self._alone() as mine:
                report = await self._done(by, at, dry_run, force, wants_grants) if mine else _busy(at)
        except (OpenWebUIError, CatalogError, *_AWAY) as error:
            report = Report(at, "failed", detail=_sentence(error))
        report = replace(report, by=by.name, took_s=round(time.monotonic() - begun, 3))
        if not dry_run and report.outcome != "busy":
            await self._keep(report, by)
        return report

    async def _done(self, by: Actor, at: datetime, dry_run: bool, force: bool, grants: bool) -> Report:
        async with self._client() as openwebui:
            census = await take_census(openwebui)
            kept = await self.mirror.kept()
            found = difference(census, kept)
            report = _begun(at, census, found)
            if (why := refusal(found)) and not force:
                return replace(report, outcome="refused", detail=why, merges=_merges(found, kept))
            failed: list[str] = []
            if not dry_run:
                failed = await self._carried_out(found, kept, by)
                kept = await self.mirror.kept()
            looked = await self._showing.look(openwebui, census, kept, grants=grants, dry_run=dry_run)
            if looked.models is not None and not dry_run:
                await self.mirror.write_shown(looked.models, at)
        changes = report.changes + len(looked.lines)
        return replace(
            report,
            outcome="unchanged" if not changes else "tried" if dry_run else "done",
            changes=changes,
            lines=(*report.lines, *looked.lines)[:LINES_MAX],
            notes=(*report.notes, *failed, *looked.notes)[:LINES_MAX],
            merges=_merges(found, kept),
        )

    async def _carried_out(self, found: Difference, kept: Kept, by: Actor) -> list[str]:
        """Do it; what could not be done, a sentence each."""
        groups = {circle: there.group_id for circle, there in kept.circles.items()}
        doing = Doing(self._accounts, self.mirror, by, groups)
        await doing.all(found)
        return doing.failed

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """Whether no other sync of this realm runs anywhere; while the block lasts, none does. A process that dies
        gives it back with its connection."""
        lock = select(func.pg_try_advisory_lock(_LOCK, func.hashtext(self.mirror.realm)))
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            mine = bool(await connection.scalar(lock))
            try:
                yield mine
            finally:
                if mine:
                    await connection.execute(select(func.pg_advisory_unlock(_LOCK, func.hashtext(self.mirror.realm))))

    async def _keep(self, report: Report, by: Actor) -> None:
        """Write down how it went. What goes wrong again and again in the same way is told once."""
        try:
            before = await self.mirror.last_report()
            await self.mirror.write_report(report)
            if report.outcome == "done" or before is None or (before.outcome, before.detail) != _gist(report):
                await record(
                    self._engine, _level(report), "openwebui.sync", outcome=report.outcome, what=report.sentence
                )
            if report.outcome == "done" or by != BY_ITSELF:
                await self._audit(report, by)
        except _AWAY as error:
            _log.warning("sync not kept", extra={"error": type(error).__name__})

    async def _audit(self, report: Report, by: Actor) -> None:
        facts = {"outcome": report.outcome, "changes": report.changes, "detail": report.detail}
        async with self._engine.begin() as connection:
            await audited(connection, by, Change("openwebui.sync", "openwebui", self.mirror.realm, None, facts))


def _client(settings: OpenWebUISettings) -> AbstractAsyncContextManager[OpenWebUI]:
    key = settings.admin_key.get_secret_value() if settings.admin_key else ""
    return open_webui(settings.url, key)


def _begun(at: datetime, census: Census, found: Difference) -> Report:
    return Report(
        at,
        "tried",
        people=len(census.people),
        groups=len(census.circles),
        changes=len(found.deeds),
        lines=lines_of(found),
        notes=found.notes,
    )


def _merges(found: Difference, kept: Kept) -> tuple[OfferedMerge, ...]:
    """The offers, with the accounts their newer halves have."""
    subjects = kept.by_subject()

    def shown(offer: Offer) -> OfferedMerge:
        account = subjects.get(offer.into)
        return OfferedMerge(offer.email, offer.source, None if account is None else kept.going_on(account).id)

    return tuple(each for each in map(shown, found.offers) if each.into != each.source)


def _gist(report: Report) -> tuple[str, str]:
    return report.outcome, report.detail


def _level(report: Report) -> Level:
    return {"failed": "error", "refused": "warning"}.get(report.outcome, "info")  # type: ignore[return-value]


def _busy(at: datetime) -> Report:
    return Report(at, "busy", detail="another sync runs at this moment")


def _sentence(error: Exception) -> str:
    if isinstance(error, OpenWebUIError):
        return str(error)
    return f"the database did not answer: {type(error).__name__}"
