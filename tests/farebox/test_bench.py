"""`farebox bench` hands over what was asked for, and says in a sentence what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import BenchError
from bench.suite import Options
from config.settings import Settings
from farebox import bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What the run was asked for; it measures nothing."""
    seen: list[Options] = []
    monkeypatch.setattr(bench, "bench", seen.append)
    return seen


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, key_pepper="p" * 32)  # type: ignore[arg-type]


def test_what_was_asked_for_is_handed_over(asked: list[Options], tmp_path: Path) -> None:
    json_file, plot_file = tmp_path / "a.json", tmp_path / "a.svg"
    given = (["calls"], 3, 1.5, json_file, plot_file, "postgresql://h/grown")
    assert bench.measure(settings(tmp_path), *given) == 0
    (options,) = asked
    assert (options.data_dir, options.only, options.rounds, options.seconds) == (tmp_path, ("calls",), 3, 1.5)
    assert (options.json_file, options.plot_file) == (json_file, plot_file)
    assert options.filled == "postgresql+asyncpg://h/grown"
    assert options.pepper == "p" * 32 and "pppp" not in repr(options)


def test_without_a_pepper_one_is_made_and_kept(asked: list[Options], tmp_path: Path) -> None:
    for _ in range(2):
        bench.measure(Settings(data_dir=tmp_path), [], 1, 1.0, tmp_path / "a", tmp_path / "b")
    first, second = asked
    assert first.pepper == second.pepper and len(first.pepper) >= 32 and not first.filled


def test_what_cannot_be_measured_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Options) -> None:
        raise BenchError("no C compiler: cc is not on the path")

    monkeypatch.setattr(bench, "bench", fails)
    assert bench.measure(settings(tmp_path), [], 1, 1.0, tmp_path / "a", tmp_path / "b") == 1
    assert capsys.readouterr().err == "farebox: no C compiler: cc is not on the path\n"
