"""The command ``farebox``: reads its words, builds the settings once, and hands over to the room that does the work."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop

from config.catalog import Declared
from config.catalog_file import read_catalog
from config.complaints import ComplaintsError
from config.settings import Settings, config_path, load_settings
from config.toml_file import CATALOG_KEYS, read_toml
from farebox.cli_openwebui import connect_app, sync_app
from farebox.cli_partitions import app as partitions_app

T = TypeVar("T")

app = typer.Typer(
    help="Farebox meters LLM traffic: who is calling, what they may do, what it costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
migrate_app = typer.Typer(help="Bring the database's schema up, down, or say where it stands.", no_args_is_help=True)
key_app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)
user_app = typer.Typer(help="Make and show users, and change their tier.", no_args_is_help=True)
prices_app = typer.Typer(
    help="Compare the prices in force with a price list, and enter new ones.", no_args_is_help=True
)
app.add_typer(migrate_app, name="migrate")
app.add_typer(key_app, name="key")
app.add_typer(user_app, name="user")
app.add_typer(prices_app, name="prices")
app.add_typer(partitions_app, name="partitions")
app.add_typer(connect_app, name="connect")
app.add_typer(sync_app, name="sync")


def main() -> None:
    """The console script."""
    app()


@app.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the address.")] = 1,
) -> None:
    """Serve the gateway; the schema is brought up first. SIGTERM drains."""
    settings, declared = configured()  # first: what is wrong is told before the house is even imported
    from farebox.logs import set_up_logs

    set_up_logs(settings.log_level)
    if workers > 1:
        from farebox.workers import serve_workers

        _run(serve_workers(settings, workers))
    else:
        from farebox.serve import serve as run

        _run(run(settings, declared))


@app.command(hidden=True)
def worker(listeners: Annotated[str, typer.Option()], line: Annotated[int, typer.Option()]) -> None:
    """One process of several; started by serve."""
    settings, declared = configured()
    from farebox.logs import set_up_logs
    from farebox.workers import work

    set_up_logs(settings.log_level)
    _run(work(settings, declared, [int(fd) for fd in listeners.split(",")], line))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the tour.")] = False,
) -> None:
    """Show everything on this machine: a demo backend, a user per tier, and a tour with real calls."""
    settings, _ = configured()
    from farebox.demo import demo as run
    from farebox.logs import set_up_logs

    set_up_logs("error")
    _run(run(settings, once=once))


@app.command()
def verify(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Recompute every invariant of the ledger; exit 0 only if all hold."""
    from farebox.desk import verify_ledger

    findings = _run(verify_ledger(configured()[0]))
    if as_json:
        shown = [
            {"name": f.name, "says": f.says, "looked_at": f.looked_at, "holds": f.holds, "broken": f.broken}
            for f in findings
        ]
        print(json.dumps(shown, indent=2))
    else:
        for finding in findings:
            print(finding.line())
    raise typer.Exit(0 if all(finding.holds for finding in findings) else 1)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at settings, engines, backends and catalogue, and say all that is wrong; exit 1 if something is broken."""
    from farebox.doctor import examine
    from farebox.findings import document, lines, worst
    from farebox.logs import set_up_logs

    set_up_logs("error")
    found = _run(examine(*configuration()))
    if as_json:
        print(json.dumps(document(found), indent=2))
    else:
        for line in lines(found):
            print(line)
    raise typer.Exit(1 if worst(found) == "error" else 0)


@app.command()
def bench(
    only: Annotated[str, typer.Option(help="Measures joined by commas; without it all.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Everybody takes a turn in each.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each turn is.")] = 4.0,
    json_file: Annotated[Path, typer.Option("--json", help="Where every round is written.")] = Path("bench.json"),
    plot_file: Annotated[Path, typer.Option("--plot", help="Where the plot is drawn.")] = Path("bench.svg"),
    database_url: Annotated[str, typer.Option(help="A database with a large ledger, for ledger-growth.")] = "",
    seed_data: Annotated[bool, typer.Option("--seed-data", help="Fill the database for measuring at size.")] = False,
    users: Annotated[int, typer.Option(min=1, help="With --seed-data: how many users.")] = 100_000,
    charges: Annotated[int, typer.Option(min=1, help="With --seed-data: how many, in twelve months.")] = 10_000_000,
    again: Annotated[bool, typer.Option("--again", help="Add to a database that has users.")] = False,
) -> None:
    """Measure on engines of its own; with --seed-data make a large ledger, in the database the settings name."""
    if seed_data:
        _seed(users, charges, again)
        return
    from farebox.bench import measure

    settings, _ = configured()
    names = [name.strip() for name in only.split(",") if name.strip()]
    raise typer.Exit(measure(settings, names, rounds, seconds, json_file, plot_file, database_url))


def _seed(users: int, charges: int, again: bool) -> None:
    from farebox.seed_data import seed

    settings, _ = configured()
    with typer.progressbar(length=charges, label="charges", file=sys.stderr) as bar:
        seeded = _run(seed(settings, users, charges, again=again, progress=bar.update))
    print(seeded.sentence)


@app.command()
def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many runs.")] = 1000,
    faults: Annotated[str, typer.Option(help="Kinds of faults joined by commas, all, or none.")] = "",
    seed: Annotated[int, typer.Option(help="Run this seed alone.")] = -1,
    trace: Annotated[bool, typer.Option("--trace", help="Print what happens in the run, in virtual time.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    mutant: Annotated[str, typer.Option(help="Break a rule of the protocol: this must not pass.")] = "",
) -> None:
    """Run the money protocol's own code through seeded faults; exit 0 only if every run keeps every promise."""
    from simulation.runner import report, run_seeds, story, work_of

    work = _understood(lambda: work_of(faults, mutant))
    if trace:
        verdict, lines = story(max(seed, 0), work)
        for line in (*lines, *(verdict.broken or ["every promise held"])):
            print(line)
        raise typer.Exit(1 if verdict.broken else 0)
    first, count = (0, seeds) if seed < 0 else (seed, 1)
    with typer.progressbar(length=count, label="runs", file=sys.stderr) as bar:
        done = report(work, run_seeds(range(first, first + count), work, min(jobs, count)), bar.update)
    for line in done.lines():
        print(line)
    raise typer.Exit(0 if done.holds else 1)


@app.command()
def reconcile(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines with day, model, kind, amount.")],
    upstream: Annotated[str, typer.Option(help="Compare with what went to this upstream alone.")] = "",
    tolerance: Annotated[str, typer.Option(help="What a difference may be of the vendor's figure.")] = "1%",
) -> None:
    """Compare a vendor's usage export with the ledger; exit 0 only if no figure differs by more."""
    from farebox.reconcile import read_file, tolerance_of
    from farebox.reconcile import reconcile as run

    vendor, part = _understood(lambda: (read_file(file), tolerance_of(tolerance)))
    compared = _run(run(configured()[0], vendor, upstream=upstream, tolerance=part))
    for line in compared.text():
        print(line)
    raise typer.Exit(0 if compared.agrees else 1)


@prices_app.command("import")
def prices_import(
    file: Annotated[Path, typer.Argument(help="A price list: JSON, USD per token by model.")],
    upstream: Annotated[str, typer.Option(help="Only the models of this upstream.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Name the list's other models, too.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Enter the new prices; without it nothing changes.")] = False,
    effective: Annotated[str, typer.Option(help="From when they count, like 2027-01-31T00:00Z; without it now.")] = "",
) -> None:
    """Show what a price list would change, and enter it with --apply; exit 1 if a model of ours is refused."""
    from farebox.prices import import_prices, instant_of, read_file

    begins = _understood(lambda: instant_of(effective, datetime.now(UTC))) if effective else None
    listed = _understood(lambda: read_file(file))
    review = _run(import_prices(configured()[0], listed, upstream=upstream, apply=apply, effective=begins))
    for line in review.lines(everything=everything):
        print(line)
    if review.changes:
        print("These prices are entered." if apply else "Nothing is changed: enter these prices with --apply.")
    raise typer.Exit(1 if review.refused else 0)


@migrate_app.command("up")
def migrate_up() -> None:
    """Run the steps that are missing."""
    from farebox.desk import migrate

    print(_run(migrate(configured()[0], "up")))


@migrate_app.command("down")
def migrate_down(
    steps: Annotated[int, typer.Option(min=1, help="How many steps to undo.")] = 1,
    everything: Annotated[bool, typer.Option("--all", help="Undo all steps: this deletes every table.")] = False,
) -> None:
    """Undo steps; data in the tables they made is gone."""
    from farebox.desk import migrate

    print(_run(migrate(configured()[0], "down", None if everything else steps)))


@migrate_app.command("status")
def migrate_status() -> None:
    """Say where the schema stands."""
    from farebox.desk import migrate

    print(_run(migrate(configured()[0], "status")))


@user_app.command("create")
def user_create(
    name: str,
    email: str = "",
    tier: Annotated[str, typer.Option(help="Without it the default tier.")] = "",
    credit: Annotated[str, typer.Option(help="USD to begin with, like 5.00.")] = "",
) -> None:
    """Make a user and a key, which is shown once."""
    from farebox.desk import create_user

    _print(_run(create_user(configured()[0], name, email=email, tier=tier or None, credit=credit or None)))


@user_app.command("show")
def user_show(who: Annotated[str, typer.Argument(help="Id, subject or e-mail address.")]) -> None:
    """Show a user's tier, balance and last charges."""
    from farebox.desk import show_user

    _print(_run(show_user(configured()[0], who)))


@user_app.command("tier")
def user_tier(who: str, tier: str) -> None:
    """Give a user another tier; effective everywhere within two seconds."""
    from farebox.desk import set_tier

    _print(_run(set_tier(configured()[0], who, tier)))


@user_app.command("credit")
def user_credit(
    who: Annotated[str, typer.Argument(help="Id, subject or e-mail address.")],
    usd: Annotated[str, typer.Argument(help="USD, like 5.00.")],
    ref: Annotated[str, typer.Option(help="Booked once for each reference (an invoice number, say).")],
    kind: Annotated[str, typer.Option(help="paid (money came in) or promo (a gift).")] = "paid",
    days: Annotated[int, typer.Option(help="Ends after so many days; 0: never.")] = 0,
) -> None:
    """Put money in a user's wallet."""
    from farebox.desk import credit

    ends = datetime.now(UTC) + timedelta(days=days) if days else None
    _print(_run(credit(configured()[0], who, usd, kind=kind, ref=ref, expires_at=ends)))


@key_app.command("create")
def key_create(
    name: str,
    user: Annotated[str, typer.Option(help="Whose key: id, subject or e-mail address.")] = "",
    forward_users: Annotated[
        bool, typer.Option("--forward-users", help="A service's key, which names its user in each call.")
    ] = False,
    plain_headers: Annotated[
        bool, typer.Option("--plain-headers", help="The service may name users in unsigned headers.")
    ] = False,
    realm: Annotated[str, typer.Option(help="Name under which a service's users are kept apart.")] = "open-webui",
    days: Annotated[int, typer.Option(help="Expires after so many days; 0: never.")] = 0,
) -> None:
    """Make a key and show it, once."""
    from farebox.desk import create_key

    ends = datetime.now(UTC) + timedelta(days=days) if days else None
    made = create_key(
        configured()[0],
        name,
        user=user,
        forward_users=forward_users,
        plain_headers=plain_headers,
        realm=realm,
        expires_at=ends,
    )
    _print(_run(made))


@key_app.command("list")
def key_list() -> None:
    """List keys; secrets are not kept and cannot be shown."""
    from farebox.desk import list_keys

    _print(_run(list_keys(configured()[0])))


@key_app.command("revoke")
def key_revoke(prefix: Annotated[str, typer.Argument(help="The key's prefix or id.")]) -> None:
    """Revoke a key; effective everywhere within two seconds."""
    from farebox.desk import revoke_key

    _print(_run(revoke_key(configured()[0], prefix)))


def configured() -> tuple[Settings, Declared]:
    """Settings and catalogue of this process; ends it, naming everything that is wrong, when something is."""
    settings, declared, complaints = configuration()
    if complaints or settings is None or declared is None:
        print("Farebox cannot start with these settings:", file=sys.stderr)
        for complaint in complaints:
            print(f"  {complaint}", file=sys.stderr)
        raise typer.Exit(2)
    return settings, declared


def configuration() -> tuple[Settings | None, Declared | None, list[str]]:
    """Settings and catalogue, None where they cannot be used, and everything that is wrong with them."""
    complaints: list[str] = []
    settings, declared = None, None
    try:
        settings = load_settings()
    except ComplaintsError as error:
        complaints += map(str, error.complaints)
    try:
        path = config_path()
        tables = {name: value for name, value in read_toml(path).items() if name in CATALOG_KEYS} if path else {}
        declared = read_catalog(tables, default_tier=settings.default_tier if settings else None)
    except ComplaintsError as error:
        complaints += (str(each) for each in error.complaints if str(each) not in complaints)
    return settings, declared, complaints


def _understood(read: Callable[[], T]) -> T:
    """What the words or the file of a command mean; ends the command with a sentence where they mean nothing."""
    try:
        return read()
    except ValueError as error:
        print(f"farebox: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; what an operator can mend is said in a sentence, without a traceback."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except Exception as error:
        if not isinstance(error, _mendable()):
            raise
        print(f"farebox: {error or type(error).__name__}", file=sys.stderr)
        raise typer.Exit(1) from None


def _mendable() -> tuple[type[Exception], ...]:
    """What an operator can mend. Looked up when something failed: a process that serves loads none of these rooms."""
    from accounts.store_sql import AccountsUnavailable, PepperMismatch
    from config.catalog_sql import CatalogError
    from farebox.demo_tour import TourError
    from farebox.desk import DeskError
    from farebox.engines import EnginesError
    from farebox.migrate import MigrationError
    from farebox.seed_data import SeedError
    from farebox.serve import StartError
    from gateway.tokens import VocabularyError
    from ledger.store import BankUnavailable

    return (
        StartError, EnginesError, MigrationError, PepperMismatch, CatalogError, VocabularyError, BankUnavailable,
        AccountsUnavailable, DeskError, SeedError, TourError, OSError,
    )  # fmt: skip


def _print(shown: dict[str, Any] | list[dict[str, Any]]) -> None:
    for each in shown if isinstance(shown, list) else [shown]:
        for name, value in each.items():
            print(f"{name:14} {value}")
        if isinstance(shown, list):
            print()
