"""The words of ``farebox partitions``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from config.settings import Settings

app = typer.Typer(help="The months of the ledger: list, seal, detach, attach them.", no_args_is_help=True)

Month = Annotated[str, typer.Argument(help="Like 2026-11.")]


@app.command("list")
def list_() -> None:
    """Show each month: its size, whether it is sealed or detached; and rows that stand outside their month."""
    from farebox.partitions import list_months

    for line in _done(list_months):
        print(line)


@app.command()
def seal(month: Month) -> None:
    """Verify the ledger, put the month's hash and sums on record, and let nobody change it any more."""
    from farebox.partitions import seal as run

    print(_done(lambda settings: run(settings, month)))


@app.command()
def unseal(month: Month) -> None:
    """Take the seal off a month that is attached, to correct it."""
    from farebox.partitions import unseal as run

    print(_done(lambda settings: run(settings, month)))


@app.command()
def detach(
    month: Month,
    refundable_days: Annotated[
        int, typer.Option(min=0, help="So long after its end calls of the month are still to be refundable.")
    ] = 90,
) -> None:
    """Take the oldest month off the ledger, if its rows are those that were sealed; its sums stay."""
    from farebox.partitions import detach as run

    print(_done(lambda settings: run(settings, month, refundable_days)))


@app.command()
def attach(month: Month) -> None:
    """Put a detached month back, if its rows are those that were sealed."""
    from farebox.partitions import attach as run

    print(_done(lambda settings: run(settings, month)))


@app.command()
def home(
    everything: Annotated[bool, typer.Option("--all", help="However many there are; calls wait meanwhile.")] = False,
) -> None:
    """Move rows out of the default partitions into their months."""
    from farebox.partitions import home as run

    print(_done(lambda settings: run(settings, everything=everything)))


def _done(work: Callable[[Settings], Coroutine[Any, Any, Any]]) -> Any:
    from farebox import cli

    return cli._run(work(cli.configured()[0]))
