"""Secrets named by their variable."""

from __future__ import annotations

import pytest

from config.environment import environment_secret


def test_an_unset_variable_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "x")
    assert environment_secret("NO_SUCH") is None and str(environment_secret("SOME_KEY")) == "**********"
