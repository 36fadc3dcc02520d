"""What a user used over HTTP: in steps of time and by model, the same sums as its charges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.admin_api.world import path_of, pointers, rolled
from tests.house import Admin, Caller, Farebox


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


@pytest.fixture
async def caller(module_farebox: Farebox) -> Caller:
    return await module_farebox.caller(tier="pro")


@pytest.mark.parametrize("by", ["hour", "day", "month"])
async def test_every_step_is_the_sum_of_its_charges(
    admin: Admin, module_farebox: Farebox, caller: Caller, by: str
) -> None:
    for model in ("small", "small", "large"):
        assert (await module_farebox.chat(caller, model=model)).status == 200
    await rolled(module_farebox)
    charges = await module_farebox.charges(caller.user.id)
    usage = await admin.read(f"{path_of(caller)}/usage", by=by)
    assert usage["by"] == by and {step["currency"] for step in usage["data"]} == {"USD"}
    assert sum(step["calls"] for step in usage["data"]) == 3
    assert sum(round(float(step["amount"]) * 1e9) for step in usage["data"]) == sum(row["amount"] for row in charges)
    starts = datetime.fromisoformat(usage["data"][0]["starts"])
    assert timedelta(0) <= datetime.now(UTC) - starts < timedelta(days=32)


async def test_models_come_the_dearest_first(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    for model in ("small", "large", "small"):
        assert (await module_farebox.chat(caller, model=model)).status == 200
    await rolled(module_farebox)
    models = (await admin.read(f"{path_of(caller)}/usage/models"))["data"]
    assert [(each["model"], each["calls"], each["task"]) for each in models] == [("large", 1, ""), ("small", 2, "")]


async def test_who_used_nothing_has_no_steps(admin: Admin, caller: Caller) -> None:
    assert (await admin.read(f"{path_of(caller)}/usage"))["data"] == []
    assert (await admin.read(f"{path_of(caller)}/usage/models"))["data"] == []


async def test_a_span_is_bounded_and_goes_forward(admin: Admin, caller: Caller) -> None:
    path = f"{path_of(caller)}/usage"
    long = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-09T00:00:00Z"}
    assert pointers(await admin.get(path, by="hour", **long)) == ["since"]
    assert (await admin.get(path, by="day", **long)).status == 200
    back = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    assert pointers(await admin.get(path, **back)) == ["since"]
    assert pointers(await admin.get(path, by="year")) == ["by"]
    assert (await admin.get(path, until="1970-01-01T00:00:00Z")).status == 200
