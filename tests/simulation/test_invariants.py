"""Each invariant over the dictionaries is broken by a row that breaks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation import invariants
from simulation.house import PRICES
from simulation.tables import Tables
from simulation.world import World
from tests.simulation.runs import run_of

BY_VERSION = {price.version: price for price in PRICES.values()}


def first(rows: object) -> object:
    return next(iter(rows.values()))  # type: ignore[attr-defined]


def leg(tables: Tables) -> None:
    first(tables.postings).amount += 1  # type: ignore[attr-defined]


def spendable(tables: Tables) -> None:
    first(tables.wallets).spendable += 1  # type: ignore[attr-defined]


def held(tables: Tables) -> None:
    first(tables.wallets).held += 1  # type: ignore[attr-defined]


def spent(tables: Tables) -> None:
    first(tables.holds).spent += 1  # type: ignore[attr-defined]


def state(tables: Tables) -> None:
    next(hold for hold in tables.holds.values() if hold.state == "settled").state = "voided"


def amount(tables: Tables) -> None:
    next(charge for charge in tables.charges.values() if charge.amount).amount += 1


def usage(tables: Tables) -> None:
    first(tables.charges).usage["output"] = -1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "break_it"),
    [("I1", leg), ("I2", spendable), ("I3", held), ("I4", spent), ("I5", state), ("I6", amount), ("I7", usage)],
)
def test_a_broken_row_is_found(name: str, break_it: Callable[[Tables], None]) -> None:
    def look(world: World) -> list[str]:
        assert invariants.broken(world.tables, BY_VERSION) == []
        break_it(world.tables)
        return invariants.broken(world.tables, BY_VERSION)

    assert any(line.startswith(f"{name} ") for line in run_of(0, (), look))
