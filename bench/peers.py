"""The same run with what else one could put before a backend: LiteLLM, Portkey's open gateway, nginx.

    python -m bench.peers                          # make bench-peers
    python -m bench.peers --only calls,burst --rounds 3

Each peer is installed once into a folder of its own below ``.bench-peers``, from the package registries and at a
pinned version, and runs as its makers say for production, on the core where Farebox is measured. What cannot be had
is left out, and said.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import environments, relays
from bench.databases import make_database
from bench.environments import CannotInstall
from bench.goals import LITELLM, PORTKEY
from bench.litellm_keys import budgeted_key, prisma_engine
from bench.loads import Target
from bench.machine import BenchError
from bench.ports import free_port, listens
from bench.processes import started
from bench.stage import CHAT, Stage
from bench.suite import Opener, Options, bench
from config.settings import database_url

METERED = "LiteLLM metered"
LITELLM_VERSION = "1.106.2"
PORTKEY_VERSION = "1.15.2"
PRISMA_VERSION = "0.11.0"
_PORTKEY_SERVER = {"@hono/node-server": "1.13.8"}  # with 1.19 this Portkey answers every stream with 500
_MASTER_KEY = "sk-bench-master-0123456789"
_LITELLM_CONFIG = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: {backend}/v1
      api_key: sk-upstream
      input_cost_per_token: 0.00000015
      output_cost_per_token: 0.0000006
litellm_settings:
  telemetry: false
{more}
"""
_LITELLM_REDIS = """
router_settings:
  redis_url: {redis}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody to be measured beside; ``install`` gives what starts it, or raises CannotInstall."""

    name: str
    install: Callable[[Path], Opener]


def litellm(folder: Path) -> Opener:
    """LiteLLM with its master key alone: nobody is looked up, nothing is counted or written."""
    programs = environments.python(folder / "litellm", f"litellm[proxy]=={LITELLM_VERSION}")

    @contextmanager
    def opened(stage: Stage) -> Iterator[Target]:
        with _litellm(stage, programs, "litellm", {}, "") as target:
            yield target

    return opened


def litellm_metered(folder: Path) -> Opener:
    """LiteLLM with Postgres, Redis and a key that has a budget and limits."""
    programs = environments.python(
        folder / "litellm-metered", f"litellm[proxy]=={LITELLM_VERSION}", f"prisma=={PRISMA_VERSION}"
    )
    prisma_engine(programs)

    @contextmanager
    def opened(stage: Stage) -> Iterator[Target]:
        database = asyncio.run(make_database(stage.engines.database_url)).replace("+asyncpg", "", 1)
        redis = _LITELLM_REDIS.format(redis=stage.engines.redis_url.replace("db=0", "db=15"))
        with _litellm(stage, programs, "litellm-metered", {"DATABASE_URL": database}, redis) as target:
            key = budgeted_key(target.url.removesuffix(CHAT), _MASTER_KEY)
            yield replace(target, name=METERED, constant=(_bearer(key),))

    return opened


@contextmanager
def _litellm(stage: Stage, programs: Path, name: str, more: Mapping[str, str], config_more: str) -> Iterator[Target]:
    port = free_port()
    config = stage.folder / f"{name}.yaml"
    config.write_text(_LITELLM_CONFIG.format(backend=stage.backend_url, more=config_more))
    environment = {
        **os.environ, **more, "LITELLM_MASTER_KEY": _MASTER_KEY, "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1"]
    with started(command, stage.folder / f"{name}.log", stage.places.measured, environment) as run:
        url = f"http://127.0.0.1:{port}"
        run.answers(lambda: _is_alive(f"{url}/health/liveliness"))
        yield Target(LITELLM, f"{url}{CHAT}", (run.pid,), constant=(_bearer(_MASTER_KEY),), version=LITELLM_VERSION)


def _bearer(key: str) -> str:
    return f"authorization: Bearer {key}"


def _is_alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def portkey(folder: Path) -> Opener:
    """Portkey's open gateway, which relays and meters nothing."""
    modules = environments.node(folder / "portkey", f"@portkey-ai/gateway@{PORTKEY_VERSION}", instead=_PORTKEY_SERVER)
    node = shutil.which("node") or "node"
    server = modules / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    @contextmanager
    def opened(stage: Stage) -> Iterator[Target]:
        port = free_port()
        command = [node, str(server), "--headless", f"--port={port}"]
        environment = {**os.environ, "NODE_ENV": "production"}
        with started(command, stage.folder / "portkey.log", stage.places.measured, environment) as run:
            run.answers(lambda: listens(port))
            headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: {stage.backend_url}/v1")
            yield Target(
                PORTKEY, f"http://127.0.0.1:{port}{CHAT}", (run.pid,), version=PORTKEY_VERSION,
                constant=(*headers, "authorization: Bearer sk-upstream"),
            )  # fmt: skip

    return opened


PEERS = (Peer(LITELLM, litellm), Peer(METERED, litellm_metered), Peer(PORTKEY, portkey))


def installed(folder: Path) -> tuple[list[Opener], dict[str, str]]:
    """What starts the peers, and why each that is left out is."""
    openers, left_out = [], {}
    for peer in PEERS:
        try:
            openers.append(peer.install(folder))
        except CannotInstall as reason:
            left_out[peer.name] = str(reason)
            print(f"{peer.name} is left out: {reason}", file=sys.stderr, flush=True)
    return openers, left_out


def nginx_of(folder: Path) -> str | None:
    """The machine's nginx, else Debian's, unpacked; None where there is neither."""
    if (there := relays.nginx_program(folder / "nginx")) is not None:
        return there
    try:
        return relays.nginx_program(environments.debian(folder / "nginx", "nginx"))
    except CannotInstall as reason:
        print(f"nginx is left out: {reason}", file=sys.stderr, flush=True)
        return None


def main(words: argparse.Namespace) -> None:
    """Install what can be had, and measure. Raises BenchError."""
    words.folder.mkdir(parents=True, exist_ok=True)
    openers, left_out = installed(words.folder)
    nginx = nginx_of(words.folder)
    if words.install:
        return
    filled = database_url(words.database_url) if words.database_url else ""
    only = tuple(filter(None, words.only.split(",")))
    options = Options(
        words.data_dir, only, words.rounds, words.seconds, filled, json_file=words.json, plot_file=words.plot
    )
    bench(replace(options, nginx=nginx, peers=tuple(openers), left_out=left_out))


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, default=Path(".bench-peers"), help="where the peers are installed")
    asked.add_argument("--install", action="store_true", help="install them, and nothing else")
    asked.add_argument("--only", default="", help="measures joined by commas; without it all")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=4.0)
    asked.add_argument("--data-dir", type=Path, default=Path("farebox-data"))
    asked.add_argument("--database-url", default="", help="a database with a large ledger, for ledger-growth")
    asked.add_argument("--json", type=Path, default=Path("bench-peers.json"))
    asked.add_argument("--plot", type=Path, default=Path("bench-peers.svg"))
    try:
        main(asked.parse_args())
    except BenchError as error:
        sys.exit(f"bench.peers: {error}")
