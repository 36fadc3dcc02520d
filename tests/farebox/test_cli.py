"""The command line, word by word, as an operator types it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farebox.cli import app
from tests.backend import Backend
from tests.house import Farebox
from tests.process import environment

Run = Callable[..., Coroutine[None, None, tuple[int, str]]]


@pytest.fixture
def env(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> dict[str, str]:
    ours = environment(data_dir, database_url, redis_url, backend.url)
    return {name: value for name, value in ours.items() if name.startswith("FAREBOX_")}


@pytest.fixture
def run(env: dict[str, str]) -> Run:
    """Runs a command in a thread, for it brings its own event loop: exit code, and what it printed on either stream."""

    async def run(*words: str, **more: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words), env={**env, **more})
        return done.exit_code, done.output

    return run


def _field(printed: str, name: str) -> str:
    return next(line.split(maxsplit=1)[1] for line in printed.splitlines() if line.startswith(f"{name} "))


async def test_a_user_is_made_credited_moved_and_shown(run: Run, farebox: Farebox) -> None:
    code, made = await run("user", "create", "Ada", "--email", "ada@example.org", "--tier", "paid", "--credit", "5.00")
    assert code == 0, made
    assert (await farebox.chat({"authorization": f"Bearer {_field(made, 'key')}"})).status == 200
    code, booked = await run("user", "credit", "ada@example.org", "2.50", "--ref", "invoice-1")
    assert (code, _field(booked, "booked")) == (0, "yes")
    assert (await run("user", "tier", "ada@example.org", "pro"))[0] == 0
    await farebox.settled()
    code, shown = await run("user", "show", _field(made, "user"))
    assert (code, _field(shown, "tier"), _field(shown, "balance")) == (0, "pro", "7.49999655 USD")
    assert _field(made, "key") not in shown


async def test_keys_are_made_listed_and_revoked(run: Run, farebox: Farebox) -> None:
    code, made = await run("key", "create", "webui", "--forward-users", "--plain-headers", "--days", "30")
    assert code == 0, made
    code, listed = await run("key", "list")
    assert code == 0 and "service open-webui" in listed and _field(made, "key") not in listed
    assert (await run("key", "revoke", _field(listed, "prefix")))[0] == 0
    assert _field((await run("key", "list"))[1], "revoked") != "no"


_CANNOT = {
    ("user", "show", "nobody"): "no user, or more than one, answers to nobody",
    ("user", "create", "Eve", "--tier", "gold"): "there is no tier gold",
    ("user", "create", "Eve", "--credit", "-1"): "above zero",
    ("key", "create", "x"): "a key belongs either to a user",
    ("key", "revoke", "nothing"): "there is no key nothing",
}


async def test_what_cannot_be_done_is_said_in_a_sentence(run: Run, farebox: Farebox) -> None:
    for words, said in _CANNOT.items():
        code, printed = await run(*words)
        assert code == 1 and said in printed and "Traceback" not in printed, words


async def test_the_schema_is_shown_and_moved(run: Run) -> None:
    code, current = await run("migrate", "status")
    assert code == 0
    code, behind = await run("migrate", "down")
    assert code == 0 and behind != current
    code, refused = await run("user", "show", "x")
    assert code == 1 and "farebox migrate up" in refused
    assert await run("migrate", "up") == (0, current)


async def test_verify_prints_a_line_for_each_invariant_and_says_no_with_its_code(run: Run, farebox: Farebox) -> None:
    ada = await farebox.caller()
    assert (await farebox.chat(ada)).status == 200
    await farebox.settled()
    code, printed = await run("verify")
    assert code == 0 and {"I1", "I2", "I3", "I6"} <= {line.split()[0].strip(":") for line in printed.splitlines()}
    async with farebox.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE wallets SET spendable = spendable + 1")
    code, printed = await run("verify", "--json")
    broken = {finding["name"]: finding["broken"] for finding in json.loads(printed) if not finding["holds"]}
    assert code == 1 and str(ada.user.wallet_id) in str(broken["I2"])


async def test_wrong_settings_are_named_all_at_once(run: Run) -> None:
    code, printed = await run("verify", FAREBOX_BIND="nowhere", FAREBOX_KEY_PEPPER="short", FAREBOX_LOG_LEVEL="loud")
    assert code == 2
    assert all(name in printed for name in ("FAREBOX_BIND", "FAREBOX_KEY_PEPPER", "FAREBOX_LOG_LEVEL"))
    assert "short" not in printed.replace("shorter", "")


async def test_a_database_that_is_not_there_is_a_sentence(run: Run) -> None:
    code, printed = await run("verify", FAREBOX_DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert code == 1 and printed.startswith("farebox: ") and "Traceback" not in printed


async def test_no_words_show_the_help(run: Run) -> None:
    _, printed = await run()
    assert all(word in printed for word in ("serve", "demo", "migrate", "verify"))


async def test_a_database_is_seeded_once_unless_one_says_again(run: Run) -> None:
    words = ("bench", "--seed-data", "--users", "40", "--charges", "500")
    code, printed = await run(*words)
    assert code == 0 and "40 users and 500 charges in" in printed, printed
    code, printed = await run(*words)
    assert code == 1 and "has users already" in printed
    assert (await run(*words, "--again"))[0] == 0
    assert (await run("verify"))[0] == 0


async def test_a_benchmark_of_something_unknown_is_refused(run: Run) -> None:
    code, printed = await run("bench", "--only", "calls,horses")
    assert code == 1 and "no measure is called horses; there are calls, hot-wallet, burst," in printed
