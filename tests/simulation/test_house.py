"""The simulated catalogue and settings fit each other and the bounds the ledger states."""

from __future__ import annotations

from simulation.house import CATALOG, HORIZON_S, PRICES, TIMEOUTS, TTL_S
from tests.simulation.runs import common


def test_a_horizon_is_the_longest_call_and_the_life_of_a_hold() -> None:
    assert TIMEOUTS.total_s + TTL_S == HORIZON_S


def test_every_model_has_its_price_and_its_backend() -> None:
    assert CATALOG.models.keys() == PRICES.keys()
    assert all(CATALOG.upstream(model.upstream) for model in CATALOG.models.values())


def test_a_token_has_four_letters() -> None:
    assert common().counting._tokenizers.count("abc abc a") == 3
