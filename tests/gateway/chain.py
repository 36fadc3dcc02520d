"""Three models that stand in for each other, the last without a price; and who asks for them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from config.catalog import Catalog, Model
from gateway.errors import Refusal
from ledger.price import Price
from policies.principal import Principal
from policies.tier import Tier, Window

ONE = Model("one", "main", "one", fallback="two")
TWO = Model("two", "main", "two", fallback="three")
THREE = Model("three", "main", "three")
OTHER_KIND = Model("other", "main", "other", kind="embedding")
PRICES = {name: Price(at, name, {"input": at * 1000, "output": at * 1000}) for at, name in enumerate(("one", "two"), 1)}
CATALOG = Catalog(models={each.id: each for each in (ONE, TWO, THREE, OTHER_KIND)}, prices=PRICES)
TIER = Tier("free", windows=(Window(9, "requests", 60), Window(9, "cost", 60), Window(9, "tokens", 60, "embeddings")))


def principal(**more: Any) -> Principal:
    return Principal(UUID(int=1), UUID(int=2), "r", "s", "", "Ada", "user", "free", "active", "en", **more)


def code_of(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call(*given, **more)
    return caught.value.code
