"""The admin API under schemathesis: requests made from its own OpenAPI document, in every role, step after step.

    python -m tests.admin_api.fuzz [--seconds 60] [--seed 1] [--roles owner,admin,support,nobody]

A Farebox on real engines is asked; schemathesis runs beside it as a process of its own. What holds afterwards: no reply
was a defect, each was what the document says, support wrote nothing, nobody got in, and the ledger verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farebox.engines import Engines
from tests import house
from tests.backend import Backend, chat
from tests.house import Admin, Farebox

ROLES = ("owner", "admin", "support", "nobody")
PASSWORD = "correct horse battery"
_START_S = 60

# Without these: a schema cannot say which tier is there (positive_data_acceptance), what is deleted softly or retired
# can still be read (use_after_free, ensure_resource_availability), and a flood of wrong bearers locks the address out,
# which tests of their own look at (ignored_auth).
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
# What nobody but an admin changes; what a role that may not write must leave as it is.
_FACTS = (
    *("users", "api_keys", "groups", "group_members", "tiers", "tasks", "models", "upstreams", "prices"),
    *("credits", "refunds", "charges", "outside_charges", "admins", "audit"),
)
# Each has its own time: steps that build on each other would else come last, when there is none left.
_PHASES = ("examples,coverage,fuzzing", "stateful")
# What would end the session that the run itself goes by.
_OWN = ("logout", "end_session", "change_password")


@dataclass(slots=True)
class Found:
    """What a run in one role found."""

    role: str
    output: str
    wrong: list[str] = field(default_factory=list)


class Defects(logging.Handler):
    """Remembers what the admin API logged as a defect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter().format(record))


async def bearer_of(owner: Admin, role: str) -> str | None:
    """What the run in this role shows: the admin key as an owner, which no request can lock out."""
    if role in ("owner", "nobody"):
        return owner.bearer if role == "owner" else None
    email = f"fuzz-{role}@example.org"
    await owner.post("/admins", {"email": email, "role": role, "password": PASSWORD})
    tokens = await owner.bearing(None).made("/auth/login", {"email": email, "password": PASSWORD})
    return str(tokens["access_token"])


async def fuzz(farebox: Farebox, role: str, *, seconds: int, seed: int, examples: int, phases: str) -> Found:
    """Run schemathesis in one role against a running Farebox."""
    defects = Defects()
    log = logging.getLogger("farebox.admin")
    log.addHandler(defects)
    try:
        bearer = await bearer_of(farebox.admin, role)
        before = await _facts(farebox)
        code, output = await _schemathesis(farebox, bearer, seconds, seed, examples, phases)
        found = Found(role, output)
        if code:
            found.wrong.append(f"schemathesis ended with {code}")
        if role in ("support", "nobody"):
            after = await _facts(farebox)
            found.wrong += [f"{role} wrote into {table}" for table in _FACTS if before[table] != after[table]]
        found.wrong += defects.seen
        found.wrong += [finding.line() for finding in await farebox.broken()]
    finally:
        log.removeHandler(defects)
    return found


async def _facts(farebox: Farebox) -> dict[str, str]:
    """A digest of each table of facts. When a key was last used is no fact of its own."""
    digests = {}
    for table in _FACTS:
        row = "(to_jsonb(t) - 'last_used_at')::text"
        (found,) = await farebox.rows(
            f"SELECT md5(coalesce(string_agg({row}, '|' ORDER BY {row}), '')) AS d FROM {table} t"
        )
        digests[table] = str(found["d"])
    return digests


async def _schemathesis(
    farebox: Farebox, bearer: str | None, seconds: int, seed: int, examples: int, phases: str
) -> tuple[int, str]:
    words = [sys.executable, "-m", "schemathesis.cli", "run", f"{farebox.run.admin_url}/v1/openapi.json"]
    words += ["--url", farebox.run.admin_url, "--checks", ",".join(_CHECKS), "--phases", phases]
    words += ["--seed", str(seed), "--max-examples", str(examples), "--max-time", str(seconds), "--no-color"]
    words += ["--generation-database", "none", "--request-timeout", "30", "--suppress-health-check", "all"]
    words += ["--warnings", "off", "--continue-on-failure", "--no-shrink"]
    # Bearers made up by the run would make its address wait.
    words += ["--generation-with-security-parameters", "false"]
    words += [word for name in _OWN for word in ("--exclude-operation-id", name)]
    words += ["-H", f"Authorization: Bearer {bearer}"] if bearer else []
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *words, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds * 3 + _START_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            return -1, "schemathesis did not end in time"
    return process.returncode or 0, output.decode("utf-8", "replace")


async def run(roles: Sequence[str], *, seconds: int, seed: int) -> int:
    """Every role in its turn on one Farebox; the exit code."""
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir(mode=0o700)
        engines = await asyncio.to_thread(
            Engines.start, Path(folder) / "engines", postgres=True, redis=True, durable=False
        )
        try:
            async with (
                Backend(chat()).running() as backend,
                house.farebox(data_dir, engines.database_url, engines.redis_url, backend.url) as farebox,
            ):
                await populate(farebox)
                for role in roles:
                    for phases in _PHASES:
                        found = await fuzz(farebox, role, seconds=seconds, seed=seed, examples=50, phases=phases)
                        worst |= _tell(found, phases)
        finally:
            await asyncio.to_thread(engines.stop)
    return worst


async def populate(farebox: Farebox) -> None:
    """Somebody with a key and a charge, so that lists are not empty."""
    ada = await farebox.caller()
    await farebox.chat(ada)
    await farebox.settled()


def _tell(found: Found, phases: str) -> int:
    counts = ", ".join(
        re.findall(r"^ +(\d+ generated|API Links: +\d+ covered|Tested: \d+)", found.output, re.MULTILINE)
    )
    print(f"== {found.role}, {phases}: {'; '.join(found.wrong) or 'nothing wrong'} ({counts})", flush=True)
    if found.wrong:
        print(found.output, flush=True)
    return bool(found.wrong)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Run schemathesis against the admin API, in every role.")
    parser.add_argument("--seconds", type=int, default=25, help="for each role and phase")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--roles", default=",".join(ROLES))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    sys.exit(asyncio.run(run(chosen.roles.split(","), seconds=chosen.seconds, seed=chosen.seed)))


if __name__ == "__main__":
    main()
