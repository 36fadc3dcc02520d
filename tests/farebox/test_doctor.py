"""`farebox doctor` as an operator runs it: everything wrong at once, beside a running Farebox or before the first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from config.catalog import Declared
from config.shipped import shipped_tiers
from farebox.cli import app
from farebox.doctor import examine
from farebox.engines import Engines
from farebox.findings import Found
from tests import house
from tests.backend import Backend, json_answer
from tests.house import Farebox
from tests.process import environment

Doctor = Callable[..., Coroutine[None, None, tuple[int, Any]]]


@pytest.fixture
def doctor(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> Doctor:
    """`farebox doctor --json` with the usual file: exit code, and what it found; settings given replace the usual."""
    backend.answer = json_answer({"data": []})
    ours = environment(data_dir, database_url, redis_url, backend.url, TEST_UPSTREAM_KEY="sk-test")
    kept = {name: value for name, value in ours.items() if name.startswith("FAREBOX_")}

    async def run(*, plain: bool = False, **more: str) -> tuple[int, Any]:
        words = ["doctor"] if plain else ["doctor", "--json"]
        env = kept | {f"FAREBOX_{name}": value for name, value in more.items()}
        done = await asyncio.to_thread(CliRunner().invoke, app, words, env=env)
        return done.exit_code, done.stdout if plain else json.loads(done.stdout)

    return run


def told(report: Any, verdict: str, area: str = "") -> list[str]:
    return [
        f"{each['subject']}: {each['says']}"
        for each in report["found"]
        if each["verdict"] == verdict and area in each["area"]
    ]


def durability(report: Any) -> list[str]:
    """The servers of tests may be told not to wait for their disks."""
    return [line for line in told(report, "error") if line.startswith(("fsync", "full_page_writes", "synchronous_"))]


async def test_beside_a_running_farebox_all_is_looked_at(doctor: Doctor, farebox: Farebox) -> None:
    code, report = await doctor()
    assert told(report, "error") == durability(report)
    assert code == (1 if durability(report) else 0)
    areas = {each["area"] for each in report["found"]}
    assert areas == {"configuration", "data folder", "database", "redis", "catalogue", "upstreams", "file"}
    assert told(report, "ok", "file") == ["catalogue: says what is in force"]
    assert told(report, "ok", "upstreams") == ["main: FAREBOX_TEST_UPSTREAM_KEY is set", "main: answers"]
    assert told(report, "warning", "catalogue") == ["model unpriced: has no price, so calls to it are refused"]
    assert told(report, "ok", "database")[0].startswith("reachable: Postgres")
    assert "pepper: the one that keys here were made with" in told(report, "ok", "database")


async def test_people_read_a_line_for_each_thing(doctor: Doctor, farebox: Farebox) -> None:
    _, printed = await doctor(plain=True)
    lines = printed.splitlines()
    assert lines[0].startswith("ok       configuration") and "things looked at" in lines[-1]
    assert any(line.startswith("WARNING  catalogue      model unpriced") for line in lines)


async def test_everything_wrong_is_told_at_once(doctor: Doctor, farebox: Farebox, data_dir: Path) -> None:
    etag = (await farebox.admin.get("/tiers/pro")).headers["etag"]
    await farebox.admin.patch("/tiers/pro", {"title": "Pro", "models": ["o3*"]}, match=etag)
    await farebox.admin.made("/tiers", {"name": "extra"})
    (data_dir / "spool" / "a.refused").write_bytes(b"x\n")
    code, report = await doctor(
        REDIS_URL="redis://127.0.0.1:1", KEY_PEPPER="another one, and long enough too", DEFAULT_TIER="free",
        TEST_UPSTREAM_KEY="",
    )  # fmt: skip
    assert code == 1 and report["verdict"] == "error"
    errors, warnings = " | ".join(told(report, "error")), " | ".join(told(report, "warning"))
    for said in ("pepper: ", "reachable: no", "1 settlements were refused", "FAREBOX_TEST_UPSTREAM_KEY"):
        assert said in errors, said
    for said in ("tier pro: grants no model", "tier pro: title is None in the file, 'Pro' here", "model unpriced"):
        assert said in warnings, said
    assert any("tier extra: is not in the file" in line for line in told(report, "note", "file"))


async def test_a_configuration_that_is_wrong_is_told_with_all_that_can_still_be_seen(
    doctor: Doctor, farebox: Farebox, data_dir: Path
) -> None:
    file = data_dir.with_name("farebox.toml")
    file.write_text(file.read_text() + '\n[[tiers]]\nname = "odd"\nprice = "cheap"\n')
    code, report = await doctor()
    assert code == 1 and any("tiers[4].price" in line for line in told(report, "error", "configuration"))
    assert told(report, "ok", "redis") and told(report, "ok", "catalogue") and not told(report, "ok", "file")
    code, report = await doctor(BIND="nowhere", LOG_LEVEL="loud")
    wrong = " ".join(told(report, "error", "configuration"))
    assert code == 1 and "FAREBOX_BIND" in wrong and "FAREBOX_LOG_LEVEL" in wrong and "tiers[4].price" in wrong
    assert len(told(report, "note", "configuration")) == 1


async def test_a_database_that_is_away_hides_nothing_else(doctor: Doctor) -> None:
    code, report = await doctor(DATABASE_URL="postgresql://u@127.0.0.1:1/d")
    assert code == 1 and told(report, "ok", "redis") and told(report, "ok", "upstreams")
    assert [line.split(":")[0] for line in told(report, "error")] == ["reachable"]


async def test_before_the_first_start_the_file_is_what_is_looked_at(doctor: Doctor, empty_database_url: str) -> None:
    _, report = await doctor(DATABASE_URL=empty_database_url)
    assert any(line.startswith("schema: The database has no schema yet") for line in told(report, "warning"))
    assert told(report, "ok", "upstreams") and told(report, "ok", "catalogue") == [
        "offered: 1 upstreams, 5 models, 4 tiers"
    ]
    assert not told(report, "error", "catalogue")


async def test_without_engines_the_embedded_ones_are_started_for_as_long_as_it_looks(data_dir: Path) -> None:
    folder = data_dir / "embedded"
    settings = house.settings(folder, "postgresql://u@h/d", "redis://h").model_copy(
        update={"database_url": None, "redis_url": None}
    )
    found = await examine(settings, Declared(), [])
    assert [each for each in found if each.verdict == "error"] == []
    assert {each.subject: each.verdict for each in found}["synchronous_commit"] == "ok"
    notes = [each.says for each in found if each.verdict == "note"]
    assert any("the ones that Farebox brings along" in said for said in notes)
    assert not (folder / "postgres" / "postmaster.pid").exists()


async def test_engines_that_do_not_start_are_told(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Engines:
        from farebox.engines import EnginesError

        raise EnginesError("no room")

    monkeypatch.setattr(Engines, "start", fails)
    settings = house.settings(data_dir, "postgresql://u@h/d", "redis://h").model_copy(update={"database_url": None})
    found = await examine(settings, Declared(tiers=shipped_tiers()), [])
    assert Found("engines", "embedded", "error", "no room") in found
    assert any(each.area == "catalogue" for each in found)


async def test_the_shipped_tiers_are_said_to_be_those(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, base="") as farebox:
        assert len((await farebox.admin.read("/tiers"))["data"]) == 10
        found = await examine(house.settings(data_dir, database_url, redis_url), Declared(), [])
    (note,) = [each for each in found if each.subject == "tiers"]
    assert note.verdict == "note" and "nobody declared any" in note.says
