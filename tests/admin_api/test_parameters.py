"""Parameters nobody asked for."""

from __future__ import annotations

import pytest

from tests.admin_api.conftest import problem
from tests.house import Admin, Farebox


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def test_a_misspelt_filter_is_named_and_nothing_is_listed(admin: Admin) -> None:
    document = problem(await admin.get("/audit", actr="ada", nonsense="1", limit="5"), 422, "invalid")
    assert {wrong["parameter"]: wrong["detail"] for wrong in document["errors"]} == {
        "actr": "is not a parameter here; did you mean actor?",
        "nonsense": "is not a parameter here",
    }


async def test_every_parameter_that_is_documented_is_taken(admin: Admin) -> None:
    query = {"actor": "a", "action": "b", "target_type": "c", "target_id": "d", "limit": "1", "format": "json"}
    query |= {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    assert (await admin.get("/audit", **query)).status == 200


async def test_a_write_takes_none(admin: Admin) -> None:
    problem(await admin.post("/auth/logout", force="yes"), 422)
