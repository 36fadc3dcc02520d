"""Secrets for one purpose each, from the one the operator keeps. Pure."""

from __future__ import annotations

import hashlib
import hmac


def derived(pepper: bytes, purpose: str) -> bytes:
    """32 bytes from the pepper that tell nothing of it, nor of those for other purposes (HMAC-SHA-256)."""
    return hmac.digest(pepper, f"farebox admin: {purpose}".encode(), hashlib.sha256)
