"""Secrets that are made once and kept in the data folder, readable by its owner only. Touches files, nothing else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

_BYTES = 32


def ensure_secret(path: Path) -> SecretStr:
    """The secret in this file; made (256 bits, mode 0600) where the file is not there yet.

    Two processes that start together agree: the file is linked into place whole, and whoever comes second reads it.
    Raises OSError where the folder cannot be written, ValueError for an empty file.
    """
    if not path.exists():
        _publish(path, secrets.token_urlsafe(_BYTES))
    text = path.read_text(encoding="ascii").strip()
    if not text:
        raise ValueError(f"{path} is empty; delete it to have a new secret made")
    return SecretStr(text)


def _publish(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        # link() fails where the name exists, so that a secret already in use is never replaced.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
