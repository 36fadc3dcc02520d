"""The operator's one TOML file, read into plain values. Knows no setting and no catalogue."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from config.complaints import Complaint, ComplaintsError

CATALOG_KEYS = ("upstreams", "models", "tiers", "tasks")
"""The top-level tables that are the catalogue; everything else in the file is a setting."""

_BYTES_MAX = 8 * 1024 * 1024


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables. Numbers with a point are Decimal: money must not pass through a float.

    Raises ComplaintsError, naming the file, where it cannot be read or is not TOML.
    """
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise ComplaintsError([Complaint(str(path), f"is larger than {_BYTES_MAX} bytes")])
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ComplaintsError([Complaint(str(path), f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:
        if isinstance(error, ComplaintsError):
            raise
        raise ComplaintsError([Complaint(str(path), f"is not TOML: {error}")]) from error
