"""Secrets that the catalogue and the settings name by their variable, so that neither file holds one."""

from __future__ import annotations

import os

from pydantic import SecretStr


def environment_secret(variable: str) -> SecretStr | None:
    """The secret in this variable, such as an upstream's ``api_key_env``; None where it is unset or empty."""
    text = os.environ.get(variable, "")
    return SecretStr(text) if text else None
