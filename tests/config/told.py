"""A settings file written and read back, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import SettingsError, load_settings


def complaints() -> dict[str, str]:
    """What is wrong with the settings as they stand: by where, what."""
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return {complaint.where: complaint.what for complaint in caught.value.complaints}


def write(text: str) -> None:
    """The settings file of this folder."""
    Path("farebox.toml").write_text(text, encoding="utf-8")
