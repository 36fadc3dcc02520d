"""The house that is measured: engines of its own, the backend, people with keys, and `farebox serve` on a core of its
own.

Everything lies in one folder that is removed at the end; nothing an operator's settings name is touched. The engines
are the embedded ones with durability on, as `farebox serve` starts them; the gateway runs with the settings it has by
default, apart from the bound on calls at once and what says where its engines are.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.loads import Target
from bench.machine import BenchError, Places, allowed, places, sitting_on
from bench.people import TIER, make_people
from bench.processes import Started, family, living_in, started
from bench.programs import Programs, compiled
from farebox.engines import Engines, EnginesError, stop_abandoned
from farebox.serve import allow_many_sockets

USERS = 64
STREAMS_MAX = 20_000
CHAT = "/v1/chat/completions"

CATALOGUE = """
[[upstreams]]
name = "bench"
base_url = "{backend}/v1"
api_key_env = "BENCH_UPSTREAM_KEY"
allow_private = true

[[models]]
id = "bench"
upstream = "bench"
prices = {{ input = "0.15", cache_read = "0.075", output = "0.60" }}

# Five windows, none of which is ever reached, and a bound on calls at once.
[[tiers]]
name = "bench"
concurrency = 100_000
windows = [
  {{ limit = 1_000_000_000, of = "requests", per = "minute" }},
  {{ limit = 1_000_000_000, of = "requests", per = "day" }},
  {{ limit = 1_000_000_000_000, of = "tokens", per = "minute" }},
  {{ limit = 1_000_000_000_000, of = "output_tokens", per = "hour" }},
  {{ limit = "100000.00", of = "cost", per = "month" }},
]
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A `farebox serve` that runs, and on what."""

    started: Started
    url: str
    database_url: str

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.started.pid,)


@dataclass(slots=True)
class Stage:
    """Where measuring happens. ``folder`` is gone afterwards; ``servers``: the first processes of further engines."""

    folder: Path
    places: Places
    programs: Programs
    engines: Engines
    backend: Started
    backend_url: str
    pepper: str = field(repr=False)
    servers: list[int] = field(default_factory=list)
    _redis_databases: int = 0

    @property
    def catalogue(self) -> str:
        """The upstream, the model, its prices and the tier, as the gateway reads them."""
        return CATALOGUE.format(backend=self.backend_url)

    def direct(self) -> Target:
        """The backend itself, without anything before it."""
        return Target("direct", f"{self.backend_url}{CHAT}", (self.backend.pid,), elsewhere=True)

    def engine_pids(self) -> list[int]:
        """The processes of Postgres and Redis at the moment."""
        return living_in(self.folder / "engines") + family(self.servers)

    def callers(self, gateway: Gateway, keys: Sequence[str], name: str = "farebox") -> Target:
        """The gateway as the holders of these keys call it, taking turns."""
        headers = tuple(f"authorization: Bearer {key}" for key in keys)
        return Target(name, f"{gateway.url}{CHAT}", gateway.pids, headers=headers)

    @contextmanager
    def gateway(
        self, *, database_url: str | None = None, words: Sequence[str] = (), cores: frozenset[int] | None = None
    ) -> Iterator[Gateway]:
        """`farebox serve`, once it serves; ``words`` go to the command. Raises BenchError when it does not."""
        name = f"gateway-{secrets.token_hex(4)}"
        home = self.folder / name
        home.mkdir()
        url = database_url or self.engines.database_url
        command = [sys.executable, "-m", "farebox", "serve", *words]
        with started(command, home / "out.log", cores or self.places.measured, self._environment(home, url)) as run:
            yield Gateway(run, run.says(r"serves at (http://\S+)/v1")[1], url)

    def _environment(self, home: Path, database_url: str) -> dict[str, str]:
        (home / "farebox.toml").write_text(self.catalogue)
        self._redis_databases = (self._redis_databases + 1) % 16
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
        ours = {
            "CONFIG": str(home / "farebox.toml"),
            "BIND": "127.0.0.1:0",
            "DATA_DIR": str(home / "data"),
            "DATABASE_URL": database_url,
            "REDIS_URL": self.engines.redis_url.replace("db=0", f"db={self._redis_databases}"),
            "KEY_PEPPER": self.pepper,
            "ADMIN_KEY": secrets.token_hex(16),
            "DEFAULT_TIER": TIER,
            "LIMITS__STREAMS_MAX": str(STREAMS_MAX),
        }
        return kept | {"BENCH_UPSTREAM_KEY": "sk-upstream"} | {f"FAREBOX_{name}": value for name, value in ours.items()}

    def people(self, gateway: Gateway, count: int = USERS) -> list[str]:
        """Keys of so many users, each with money in a wallet of its own."""
        return asyncio.run(make_people(gateway.database_url, self.pepper, count))


@contextmanager
def open_stage(data_dir: Path, pepper: str = "") -> Iterator[Stage]:
    """Engines and backend, in a folder below ``data_dir``; removed at the end. ``pepper``: of the keys, made where
    there is none. Raises BenchError when it cannot be."""
    seats = places(allowed())
    allow_many_sockets()  # also those of the processes that are started
    bench = data_dir / "bench"
    bench.mkdir(parents=True, exist_ok=True)
    _tidy(bench)
    programs = compiled(bench / "bin")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=bench)).resolve()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(sitting_on(seats.others))
        engines = stack.enter_context(_engines(folder, seats))
        backend = stack.enter_context(started([str(programs.backend)], folder / "backend.log", seats.backend))
        port = backend.says(r"listening (\d+)")[1]
        yield Stage(
            folder, seats, programs, engines, backend, f"http://127.0.0.1:{port}", pepper or secrets.token_hex(32)
        )


def _tidy(bench: Path) -> None:
    """Stop and remove what a killed run left behind."""
    for folder in bench.glob("run-*"):
        if stop_abandoned(folder / "engines"):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _engines(folder: Path, seats: Places) -> Iterator[Engines]:
    try:
        with sitting_on(seats.engines):
            engines = Engines.start(folder / "engines", postgres=True, redis=True)
    except EnginesError as error:
        raise BenchError(str(error)) from error
    try:
        yield engines
    finally:
        engines.stop()
