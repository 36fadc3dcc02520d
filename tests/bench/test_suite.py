"""`farebox bench` from its first word to its last, in small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.machine import BenchError
from bench.menu import MEASURES
from bench.report import FORM
from bench.suite import chosen
from config.settings import Settings
from farebox.engines import Engines
from farebox.seed_data import seed

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="measuring takes two cores"),
]


def bench(folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """Run it; what it printed, and its JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    command = [sys.executable, "-m", "farebox", "bench", *words]
    done = subprocess.run(
        [*command, "--json", str(folder / "bench.json"), "--plot", str(folder / "bench.svg")],
        env=kept | {"FAREBOX_DATA_DIR": str(folder / "data")}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "bench.json").read_text())


def test_one_measure_in_one_round(tmp_path: Path) -> None:
    printed, document = bench(tmp_path, "--only", "calls", "--rounds", "1", "--seconds", "0.5")
    assert document["form"] == FORM
    assert document["engines"] | {"fsync": "on", "synchronous_commit": "on"} == document["engines"]
    (calls,) = document["measures"]
    (only,) = calls["rounds"]
    assert list(only)[:3] == ["direct", "farebox", "bare relay"]
    assert all(figures["calls_per_s"] > 0 and not figures["bad"] for figures in only.values())
    assert only["direct"]["calls_per_s"] > only["farebox"]["calls_per_s"]
    assert only["farebox"]["engines_us_per_call"] > 0 < only["farebox"]["cpu_us_per_call"]
    assert "| CPU a call beyond the bare relay | ≤ 200 µs |" in printed
    ElementTree.parse(tmp_path / "bench.svg")
    assert {left.name for left in (tmp_path / "data" / "bench").iterdir()} == {"bin", "key_pepper"}


async def test_a_grown_ledger_is_measured_beside_an_empty_one(tmp_path: Path) -> None:
    with Engines.start(tmp_path / "grown", postgres=True, redis=True) as engines:
        filled = Settings(data_dir=tmp_path / "x", database_url=engines.database_url, redis_url=engines.redis_url)  # type: ignore[arg-type]
        await seed(filled, 60, 800, again=False, progress=lambda _: None)
        words = ("--only", "ledger-growth", "--rounds", "1", "--seconds", "0.5", "--database-url", engines.database_url)
        _, document = bench(tmp_path, *words)
    (growth,) = document["measures"]
    empty, grown = (growth["rounds"][0][name] for name in ("empty", "grown"))
    assert empty["calls_per_s"] > 0 < grown["calls_per_s"] and empty["bad"] == grown["bad"] == 0
    assert empty["cost_us_per_call"] > empty["engines_us_per_call"] > 0


def test_measures_are_chosen_by_name_and_a_wrong_one_is_told() -> None:
    assert chosen(()) == list(MEASURES)
    assert [measure.name for measure in chosen(("paced", "calls"))] == ["paced", "calls"]
    with pytest.raises(BenchError, match="no measure is called horses"):
        chosen(("calls", "horses"))
