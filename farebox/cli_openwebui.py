"""The words of ``farebox connect`` and ``farebox sync``."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
import typer

from config.settings import Settings

connect_app = typer.Typer(help="Make a client of this Farebox out of another program.", no_args_is_help=True)
sync_app = typer.Typer(help="Bring people and groups of another program here.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be changed.")]


@connect_app.command("openwebui")
def connect_openwebui(
    url: Annotated[str, typer.Option(help="Open WebUI's address; without it the one in the settings.")] = "",
    admin_key: Annotated[str, typer.Option(help="API key of an administrator there; without it the setting.")] = "",
    farebox_url: Annotated[str, typer.Option(help="Where Open WebUI reaches this Farebox, without /v1.")] = "",
    plain_headers: Annotated[bool, typer.Option("--plain-headers", help="Users may come unsigned.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="Give the connection another service key.")] = False,
    webhook: Annotated[bool, typer.Option("--webhook", help="Have Open WebUI tell when people change.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Set up Open WebUI's connection to this Farebox, and say what else is to be set; exit 1 if something is broken."""
    from farebox.connect import Connected, Wish, connect
    from farebox.findings import document, lines, worst

    def wish(settings: Settings) -> Wish:
        there = settings.openwebui
        key = admin_key or (there.admin_key.get_secret_value() if there.admin_key else "")
        here = farebox_url or settings.public_url
        flags = {"plain_headers": plain_headers, "new_key": new_key, "webhook": webhook, "dry_run": dry_run}
        return Wish(url or there.url, key, here, there.realm, **flags)

    done: Connected = _done(lambda settings: connect(settings, wish(settings)))
    if as_json:
        told = {"changes": done.changes, **document(done.found), "environment": msgspec.to_builtins(done.environment)}
        print(json.dumps(told, indent=2))
    else:
        for change in done.changes or ["nothing to change"]:
            print(f"{'would be' if dry_run and done.changes else 'done' if done.changes else 'same':8} {change}")
        for line in (*lines(done.found), *done.environment.lines()):
            print(line)
    raise typer.Exit(1 if worst(done.found) == "error" else 0)


@sync_app.command("openwebui")
def sync_openwebui(
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Also if a fifth of the people lose something.")] = False,
    grants: Annotated[bool, typer.Option("--grants", help="Show people there only what they may use.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring Open WebUI's people, groups and models here; exit 1 if nothing came of it."""
    from farebox.sync_openwebui import sync_openwebui as run
    from farebox.sync_openwebui import told

    report = _done(lambda settings: run(settings, dry_run=dry_run, force=force, grants=grants))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        for line in told(report):
            print(line)
    raise typer.Exit(1 if report.outcome in ("refused", "failed", "busy") else 0)


def _done(work: Callable[[Settings], Coroutine[Any, Any, Any]]) -> Any:
    from farebox import cli

    return cli._run(work(cli.configured()[0]))
