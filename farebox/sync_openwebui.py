"""`farebox sync openwebui`: one sync, at the operator's desk."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings
from farebox.desk import DeskError, open_desk
from ledger.audit import COMMAND_LINE
from openwebui.opening import service_url
from openwebui.report import Report
from openwebui.sync import Sync


async def sync_openwebui(
    settings: Settings, *, dry_run: bool = False, force: bool = False, grants: bool = False
) -> Report:
    """Sync once. Raises DeskError where the settings name no Open WebUI."""
    if not settings.openwebui.syncs:
        raise DeskError("set FAREBOX_OPENWEBUI__URL and FAREBOX_OPENWEBUI__ADMIN_KEY to say which Open WebUI is meant")
    async with open_desk(settings) as desk:
        sync = Sync(
            settings.openwebui,
            engine=desk.engine,
            accounts=desk.accounts,
            default_tier=settings.default_tier,
            service_url=service_url(settings),
        )
        return await sync.run(COMMAND_LINE, dry_run=dry_run, force=force, grants=grants or None)


def told(report: Report) -> Iterator[str]:
    """A report as it is printed."""
    yield from report.lines
    if (more := report.changes - len(report.lines)) > 0:
        yield f"and {more} more"
    yield from (f"note: {note}" for note in report.notes)
    for merge in report.merges:
        into = merge.into or "an account that this sync makes"
        yield f"perhaps one person: {merge.source} is gone there, and {merge.email} is {into}; an admin may merge them"
    yield report.sentence
