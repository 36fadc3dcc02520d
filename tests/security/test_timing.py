"""Secrets are compared as digests and whole, so that how long a refusal takes says nothing. No clock is asked: it is
shown by how the comparison is made."""

from __future__ import annotations

import ast
import hmac
from pathlib import Path
from typing import Any

import pytest

from accounts.keys import proves
from tests.house import ADMIN_KEY, Farebox

ROOT = Path(__file__).parents[2]
COMPARED = hmac.compare_digest


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What was compared in constant time."""
    seen: list[tuple[Any, Any]] = []

    def compare(one: Any, other: Any) -> bool:
        seen.append((one, other))
        return COMPARED(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    return seen


async def test_the_admin_key_is_compared_whole(farebox: Farebox, compared: list[tuple[Any, Any]]) -> None:
    for wrong in ("x", ADMIN_KEY[:-1] + "x", ADMIN_KEY + "x"):
        compared.clear()
        assert (await farebox.admin.bearing(wrong).get("/users")).status == 401
        assert (wrong.encode(), ADMIN_KEY.encode()) in compared


def test_a_key_is_compared_by_its_digest_also_where_there_is_none(compared: list[tuple[Any, Any]]) -> None:
    for digest in (None, bytes(32), b"d" * 32):
        compared.clear()
        assert not proves(b"pepper", b"secret", digest)
        ((one, other),) = compared
        assert len(one) == len(other) == 32 and b"secret" not in one


def test_nobody_compares_a_digest_or_a_secret_in_the_ordinary_way() -> None:
    secret = ("digest", "secret", "seal", "password", "pepper", "proof", "bearer")
    wrong = []
    for file in sorted(each for room in ("accounts", "admin_api", "gateway") for each in (ROOT / room).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [ast.unparse(side).lower().rpartition(".")[2] for side in (node.left, *node.comparators)]
                if any(side.endswith(secret) for side in sides if not side.startswith("_")):
                    wrong.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong
