"""The catalogue as a whole: printed as a file that says the same, and held against the operator's."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from config.catalog_file import read_catalog
from config.catalog_shelf import whole_catalog
from tests.house import Admin, Farebox


async def test_what_is_printed_says_what_is_in_force(admin: Admin, farebox: Farebox) -> None:
    await admin.made("/tiers", {"name": "made", "allowance": {"tokens": 1000}, "price": "5"})
    await admin.made("/tiers", {"name": "gone"})
    await admin.delete("/tiers/gone", match='"1"')
    answer = await admin.get("/catalog.toml")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/toml")
    text = answer.body.decode()
    read = read_catalog(tomllib.loads(text, parse_float=Decimal))
    assert read == await whole_catalog(farebox.engine)
    assert '[[tiers]]\nname = "made"\n' in text and "gone" not in text


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this replica's file is."""
    path = tmp_path / "farebox.toml"
    monkeypatch.setenv("FAREBOX_CONFIG", str(path))
    return path


async def test_a_replica_without_a_file_has_nothing_to_compare(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAREBOX_CONFIG", raising=False)
    monkeypatch.chdir("/")
    assert await admin.read("/catalog/differences") == {"file": None, "wrong": [], "differences": []}


async def test_a_file_that_is_wrong_is_said_to_be(admin: Admin, file: Path) -> None:
    file.write_text('[[tiers]]\nname = "x"\nprice = "cheap"\n')
    found = await admin.read("/catalog/differences")
    assert (found["file"], found["differences"]) == ("farebox.toml", [])
    assert found["wrong"] == ["tiers[0].price: an amount in USD must be a decimal number, not 'cheap'"]


async def test_each_difference_is_shown_with_who_wins(admin: Admin, file: Path) -> None:
    file.write_text((await admin.get("/catalog.toml")).body.decode() + '\n[[tiers]]\nname = "added"\n')
    etag = (await admin.get("/tiers/pro")).headers["etag"]
    await admin.patch("/tiers/pro", {"price": "30"}, match=etag)
    await admin.made("/tiers", {"name": "api"})
    found = {each["name"]: each for each in (await admin.read("/catalog/differences"))["differences"]}
    assert set(found) == {"added", "pro", "api"}
    assert (found["added"]["where"], found["added"]["applied"]) == ("file", True)
    assert (found["api"]["where"], found["api"]["applied"]) == ("database", False)
    assert found["pro"] == {
        "noun": "tier",
        "name": "pro",
        "where": "both",
        "retired": False,
        "applied": False,
        "fields": [{"field": "price", "file": None, "database": "30.0000"}],
    }
