"""What the simulation has found, each with the seed that showed it: it must not come back.

One more has its test in ``tests/gateway/test_payment.py``: what went past a hold while the bank was away was not
charged when the answer was cut later.
"""

from __future__ import annotations

import pytest

from simulation.scenario import FAULTS
from tests.simulation.runs import verdict_of

FOUND = {
    "an answer that is not streamed went out past its hold": (10,),
    "a checkpoint held more than the hold covers, and a kill charged it": (1338,),
    "a caller who left while the hold was to grow was charged what had not gone out": (3197,),
}


@pytest.mark.parametrize(("what", "seeds"), FOUND.items())
def test_what_was_found_is_mended(what: str, seeds: tuple[int, ...]) -> None:
    assert [verdict_of(seed, FAULTS).broken for seed in seeds] == [[] for _ in seeds]
