"""A small, seeded run of schemathesis in each role; `make test-api` is the long one."""

from __future__ import annotations

import pytest

from tests.admin_api.fuzz import ROLES, Found, fuzz, populate
from tests.house import Farebox

pytestmark = pytest.mark.long

SECONDS = {"owner": 10, "admin": 4, "support": 4, "nobody": 2}


@pytest.fixture(scope="module")
async def peopled(module_farebox: Farebox) -> Farebox:
    await populate(module_farebox)
    return module_farebox


@pytest.mark.parametrize("role", ROLES)
async def test_no_reply_is_a_defect_or_another_than_the_document_says(peopled: Farebox, role: str) -> None:
    phases = "examples,stateful" if role in ("owner", "admin") else "examples"
    found: Found = await fuzz(peopled, role, seconds=SECONDS[role], seed=20261121, examples=3, phases=phases)
    assert not found.wrong, f"{found.wrong}\n{found.output}"
    assert "generated" in found.output
