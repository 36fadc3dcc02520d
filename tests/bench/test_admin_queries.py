"""The benchmark of the admin API asks every question and gets an answer, with a plan, on a small seeded database."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.admin_queries import Asked, Question, main, table
from farebox.seed_data import seed_database
from ledger.engine import make_engine
from tests import house


async def test_every_question_is_answered_and_explained(
    data_dir: Path, database_url: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_engine(database_url, size=2, command_timeout_s=60, lock_timeout_ms=60_000)
    await seed_database(engine, 400, 3_000, progress=lambda _: None)
    await engine.dispose()
    plans = tmp_path / "plans.txt"
    await main(house.settings(data_dir, database_url, redis_url), 1, "", plans)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "question" not in line]
    text = plans.read_text()
    assert len(rows) > 90 and text.count("=== ") == len(rows)
    for explained in ("charges, tier free", "statistics, users of this month", "users, search for a name"):
        assert "Execution Time" in text.split(f"=== {explained}:")[1].split("=== ")[0], explained


def test_what_takes_too_long_is_marked() -> None:
    fast, slow = [Asked(Question("q", "/q"), times, None) for times in ([10.0, 900.0, 20.0], [301.0])]
    assert list(table([fast, slow]))[2:] == ["| q | 20 ms | 900 ms |", "| q | 301 ms **over the bound** | 301 ms |"]
