"""A wall clock that a test can set, for real processes: replicas and their Postgres. Needs a C compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farebox import engine_postgres

_SOURCE = Path(__file__).with_name("set_clock.c")


class Clock:
    """Of all processes that have ``env`` in their environment. Raises pytest's skip where nothing can be compiled."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler: the wall clock of real processes cannot be set")
        library = folder / "set_clock.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
        self._folder = folder
        self._file = folder / "ahead"
        self.set_ahead(0)
        self.env = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(self._file)}

    def set_ahead(self, seconds: int) -> None:
        """From here on their clock is so much ahead of this machine's."""
        # Written into the same file: they have it mapped.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
        self.ahead = seconds

    def now(self) -> datetime:
        """What they take it for."""
        return datetime.fromtimestamp(time.time() + self.ahead, UTC)

    def of_postgres(self, patch: pytest.MonkeyPatch) -> None:
        """A Postgres started from here on has this clock, too."""
        program = engine_postgres._program
        words = "\n".join(f"export {name}='{value}'" for name, value in self.env.items())
        script = self._folder / "pg_ctl"
        script.write_text(f"#!/bin/sh\n{words}\nexec '{program('pg_ctl')}' \"$@\"\n")
        script.chmod(0o755)
        patch.setattr(engine_postgres, "_program", lambda name: str(script) if name == "pg_ctl" else program(name))
