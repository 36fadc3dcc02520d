"""`farebox bench` from the command line: what was asked for is handed to `bench/`, and what cannot be measured is
said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import BenchError
from bench.suite import Options, bench
from config.secrets_file import ensure_secret
from config.settings import Settings, database_url


def measure(
    settings: Settings,
    only: Sequence[str],
    rounds: int,
    seconds: float,
    json_file: Path,
    plot_file: Path,
    filled: str = "",
) -> int:
    """Measure and tell; the exit code: 1, after a sentence, where it could not be done.

    Of the settings only the data folder counts: everything is measured on engines of its own in there. ``filled`` is
    the URL of a database with a large ledger.
    """
    options = Options(
        data_dir=settings.data_dir,
        only=tuple(only),
        rounds=rounds,
        seconds=seconds,
        filled=database_url(filled) if filled else "",
        pepper=_pepper(settings),
        json_file=json_file,
        plot_file=plot_file,
    )
    try:
        bench(options)
    except (BenchError, OSError) as error:
        print(f"farebox: {error}", file=sys.stderr)
        return 1
    return 0


def _pepper(settings: Settings) -> str:
    """That of the keys which are made for measuring: a large ledger is measured on more than once, and takes no
    other."""
    made = settings.key_pepper or ensure_secret(settings.data_dir / "bench" / "key_pepper")
    return made.get_secret_value()
