"""The SQL by which a month is seeded: sums of every column, and nothing left to fill in."""

from __future__ import annotations

import re

import pytest

from farebox import seed_month
from ledger.months import PARENTS
from ledger.rollup import TABLES, measures

_NUMBERS = dict.fromkeys(
    ("users", "salt", "since", "span", "begins", "lasts", "before", "calls", "first", "last", "ending"), 1
)
_TABLES = {table: f"{table}_202601" for table in PARENTS}


@pytest.mark.parametrize("table", TABLES)
def test_a_rollup_fills_every_column(table: str) -> None:
    text = seed_month.rollup(table)
    assert text.startswith(f"INSERT INTO {table} AS known ({', '.join((*TABLES[table], *measures(table)))}) SELECT ")
    assert text.count("known.") == len(measures(table))


@pytest.mark.parametrize(
    "name",
    [name for name, text in vars(seed_month).items() if name.isupper() and isinstance(text, str)],
)
def test_every_text_is_whole_once_its_numbers_are_put_in(name: str) -> None:
    text = getattr(seed_month, name).format(**_NUMBERS, **_TABLES)
    assert not re.search(r"[{}]", text)
