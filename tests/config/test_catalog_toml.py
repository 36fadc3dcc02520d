"""The running catalogue as text: whatever it holds, the file's reader gives the same values back."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings

import config
from config.catalog import Declared, Model, Rates, Upstream
from config.catalog_file import read_catalog
from config.catalog_toml import catalog_toml
from config.toml_file import CATALOG_KEYS, read_toml
from policies.tier import Tier, Window
from tests.config.catalogs import catalogs


def again(text: str) -> Declared:
    return read_catalog(tomllib.loads(text, parse_float=Decimal))


@settings(max_examples=150, deadline=None)
@given(catalogs())
def test_what_is_printed_is_read_back_to_the_same_values(catalog: Declared) -> None:
    assert again(catalog_toml(catalog)) == catalog


def test_the_example_file_is_printed_and_read_back() -> None:
    tables = read_toml(Path(config.__file__).with_name("farebox.example.toml"))
    declared = read_catalog({name: table for name, table in tables.items() if name in CATALOG_KEYS})
    assert again(catalog_toml(declared)) == declared


def test_it_is_written_as_people_write_it() -> None:
    upstream = Upstream("u", "http://h/v1", headers={"x-a": "b"})
    model = Model("m", "u", "m", title='The "m"')
    tier = Tier("t", windows=tuple(Window(5, "requests", 60 * n, models=("gpt-4*", "o3*")) for n in (1, 2, 3)))
    text = catalog_toml(Declared((upstream,), (model,), (tier,), {"m": Rates({"input": 150_000})}))
    assert text == (
        '[[upstreams]]\nname = "u"\nbase_url = "http://h/v1"\nheaders = { x-a = "b" }\n\n'
        '[[models]]\nid = "m"\nupstream = "u"\ntitle = "The \\"m\\""\nprices = { input = "0.15" }\n\n'
        '[[tiers]]\nname = "t"\nwindows = [\n'
        '  { limit = 5, of = "requests", per = "minute", models = ["gpt-4*", "o3*"] },\n'
        '  { limit = 5, of = "requests", per = 120, models = ["gpt-4*", "o3*"] },\n'
        '  { limit = 5, of = "requests", per = 180, models = ["gpt-4*", "o3*"] },\n'
        "]\n"
    )


def test_nothing_is_printed_as_nothing() -> None:
    assert catalog_toml(Declared()) == ""
