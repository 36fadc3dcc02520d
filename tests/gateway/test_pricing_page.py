"""The price list as a page, in every language."""

from __future__ import annotations

import re

import pytest

from config.catalog import Catalog
from gateway.language import shipped
from gateway.offer import ladder
from gateway.pricing_page import pricing_page, tiers_table
from tests.gateway.offers import CATALOG


@pytest.mark.parametrize("code", sorted(shipped()))
def test_the_page_is_whole_in_every_language(code: str) -> None:
    page = pricing_page(CATALOG, shipped()[code]).decode()
    assert "{" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert shipped()[code].words("prices") in page and "Large &amp; Co" in page
    assert "0.15" in page and "10.00" in page and "0.04" in page
    for hidden in ("secret", "unpriced", "Admin", "gone", "<script"):
        assert hidden not in page


def test_who_grants_everything_says_so_and_others_name_it() -> None:
    page = str(tiers_table(ladder(CATALOG), (CATALOG.models["small"], CATALOG.models["large"]), shipped()["en"], "pro"))
    assert "all models" in page and "<bdi>small</bdi>" in page
    assert page.count('class="now"') == 1 and "<strong><bdi>Pro</bdi></strong></td>" in page


def test_where_no_models_are_shown_nothing_is_said_of_them() -> None:
    page = str(tiers_table(ladder(CATALOG), (), shipped()["en"]))
    assert "all models" not in page and "<th>Models</th>" not in page


def test_what_a_model_is_runs_in_its_own_direction() -> None:
    assert "<bdi>&lt;script&gt;" in pricing_page(CATALOG, shipped()["fa"]).decode()


def test_a_house_that_offers_nothing_has_a_page_all_the_same() -> None:
    assert b"<h1>Prices</h1>" in pricing_page(Catalog(), shipped()["en"])
