"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farebox.engines import stop_abandoned


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with a short path, whose engines are stopped whatever the test did."""
    path = tmp_path_factory.mktemp("e") / "data"
    yield path
    stop_abandoned(path)
