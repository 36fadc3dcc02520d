"""Environments of their own are made once, anew after an interruption, and what cannot be had is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import environments
from bench.environments import CannotInstall


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry client that notes what it was asked for."""
    folder = tmp_path / "path"
    folder.mkdir()
    program = folder / "npm"
    program.write_text('#!/bin/sh\necho "$@" >> asked\ncp asked ..\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return program


def test_an_environment_is_made_once_for_what_is_asked(npm: Path, tmp_path: Path) -> None:
    for _ in range(2):
        modules = environments.node(tmp_path / "peer", "gateway@1.2.3", instead={"server": "4.5"})
    assert modules == tmp_path / "peer" / "node_modules"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "install --no-audit --no-fund --loglevel=error gateway@1.2.3"
    ]
    assert json.loads((tmp_path / "peer" / "package.json").read_text()) == {"overrides": {"server": "4.5"}}


def test_another_version_and_an_interrupted_install_are_begun_anew(npm: Path, tmp_path: Path) -> None:
    environments.node(tmp_path / "peer", "gateway@1.2.3")
    environments.node(tmp_path / "peer", "gateway@1.2.4")
    assert "1.2.4" in (tmp_path / "asked").read_text()
    (tmp_path / "peer" / "made").unlink()
    (tmp_path / "peer" / "half").touch()
    environments.node(tmp_path / "peer", "gateway@1.2.4")
    assert not (tmp_path / "peer" / "half").exists()


def test_what_cannot_be_had_is_quoted_and_tried_again(npm: Path, tmp_path: Path) -> None:
    good = npm.read_text()
    npm.write_text("#!/bin/sh\necho the registry is away >&2; exit 1\n")
    with pytest.raises(CannotInstall, match=r"npm install .* failed: the registry is away"):
        environments.node(tmp_path / "peer", "gateway@1.2.3")
    npm.write_text(good)
    environments.node(tmp_path / "peer", "gateway@1.2.3")


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotInstall, match="apt-get could not be run"):
        environments.debian(tmp_path / "nginx", "nginx")
