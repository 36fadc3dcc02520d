"""What LiteLLM needs to meter: its database engine, and a key with a budget and limits."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bench.environments import CannotInstall
from bench.machine import BenchError

_FETCH_S = 300
_KEY = {"models": ["bench"], "max_budget": 1_000_000.0, "rpm_limit": 100_000_000, "tpm_limit": 1_000_000_000_000}


def prisma_engine(programs: Path) -> None:
    """Have Prisma fetch its query engine and make LiteLLM's client for it. Raises CannotInstall: no package registry
    has the engine, it is a download of its own."""
    schema = next(programs.parent.glob("lib/python*/site-packages/litellm/proxy/schema.prisma"), None)
    if schema is None:
        raise CannotInstall("LiteLLM has no schema.prisma")
    command = [str(programs / "prisma"), "generate", f"--schema={schema}"]
    environment = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "HOME": str(programs.parent)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, env=environment)
    except subprocess.TimeoutExpired:
        raise CannotInstall("Prisma's query engine, which it needs for Postgres, did not come in time") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CannotInstall(
            f"Prisma's query engine, which it needs for Postgres, cannot be had: {' '.join(said)[:300]}"
        )


def budgeted_key(url: str, master_key: str) -> str:
    """A new key. Raises BenchError."""
    headers = {"authorization": f"Bearer {master_key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/key/generate", json.dumps(_KEY).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            made: dict[str, Any] = json.load(reply)
    except (OSError, urllib.error.URLError) as error:
        raise BenchError(f"LiteLLM made no key: {error}") from error
    return str(made["key"])
