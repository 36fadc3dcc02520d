"""What pages are made of: everything is escaped, nothing runs, nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

import pytest

from gateway.language import shipped
from gateway.page import document, el, headers, lines, table

EVIL = "<script>alert(1)</script>\"'&"


def test_text_is_escaped_wherever_it_stands() -> None:
    page = document(
        shipped()["en"],
        EVIL,
        EVIL,
        el("p", EVIL, el("b", EVIL), class_=EVIL),
        el("a", EVIL, href=EVIL),
        table([EVIL], [[EVIL, el("td", EVIL)]]),
        lines([EVIL]),
    ).decode()
    assert "<script" not in page and page.count("&lt;script&gt;") == 12
    assert 'class="&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;"' in page


def test_an_attribute_nobody_foresaw_is_a_defect() -> None:
    with pytest.raises(KeyError):
        el("p", "x", onclick="alert(1)")


def test_text_that_looks_like_a_cell_is_no_cell() -> None:
    assert "&lt;td onclick" in table(["x"], [["<td onclick=alert(1)>"]])


def test_a_table_whose_cells_speak_for_themselves_stacks_on_a_phone() -> None:
    assert 'class="wide stacks"' in table(["x"], [["y"]], stacks=True) and "stacks" not in table(["x"], [["y"]])
    assert b".stacks td { display: block; }" in document(shipped()["en"], "x")


@pytest.mark.parametrize(("code", "direction"), [("en", "ltr"), ("fa", "rtl")])
def test_a_page_says_its_language_and_direction(code: str, direction: str) -> None:
    page = document(shipped()[code], "x").decode()
    assert page.startswith("<!doctype html>") and f'lang="{code}" dir="{direction}"' in page
    assert '<meta name="viewport"' in page


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    page = document(shipped()["en"], "x").decode()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = headers()["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "script" not in page and "script-src" not in policy and "http" not in style[1]
    assert "style=" not in page
    assert headers()["referrer-policy"] == "no-referrer" and headers()["cache-control"] == "no-store"


def test_both_light_and_dark_are_served() -> None:
    assert b"color-scheme: light dark" in document(shipped()["en"], "x")
