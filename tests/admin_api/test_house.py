"""What the routes work with."""

from __future__ import annotations

from typing import get_args

from admin_api.house import House
from tests.house import Farebox


async def test_the_house_is_reached_from_any_route_and_is_this_fareboxs(module_farebox: Farebox) -> None:
    get = get_args(House)[1].dependency
    request = type("Request", (), {"state": type("State", (), {"house": module_farebox})})
    assert get(request) is module_farebox


async def test_a_long_list_takes_no_connection_from_a_call(module_farebox: Farebox) -> None:
    await module_farebox.admin.read("/admins")
    rows = await module_farebox.rows(
        "SELECT application_name, count(*) AS count FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1"
    )
    counts = {row["application_name"]: row["count"] for row in rows}
    assert 1 <= counts["farebox admin"] <= 4
