"""The operator's file: exact numbers, and a clear word where it cannot be read."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from config.complaints import ComplaintsError
from config.toml_file import read_toml


def test_numbers_with_a_point_stay_exact(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("price = 0.1")
    assert read_toml(tmp_path / "f.toml") == {"price": Decimal("0.1")}


@pytest.mark.parametrize(
    ("text", "told"), [(b"a = ", "is not TOML"), (b"\xff", "is not TOML"), (b"#" * 9_000_000, "larger")]
)
def test_what_cannot_be_read_names_the_file(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "f.toml").write_bytes(text)
    with pytest.raises(ComplaintsError, match=told) as caught:
        read_toml(tmp_path / "f.toml")
    assert caught.value.complaints[0].where == str(tmp_path / "f.toml")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ComplaintsError, match="No such file"):
        read_toml(tmp_path / "none.toml")
