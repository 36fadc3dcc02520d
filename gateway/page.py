"""What the pages people read have in common: elements that escape what they hold, the frame, the headers. Pure.

No script, no other host, no cookie: a page is one document with its style in it, which its policy names by digest.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files

from gateway.language import Language

_ATTRIBUTES = {"class_": "class", "href": "href", "lang": "lang", "dir": "dir", "colspan": "colspan"}


class Html(str):
    """Text that is markup already: made by ``el`` alone."""

    __slots__ = ()


def el(name: str, *children: str, **attributes: str) -> Html:
    """An element. Whatever of its children is not an element is escaped; attributes are of a short list."""
    said = "".join(f' {_ATTRIBUTES[key]}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{said}>{_joined(children)}</{name}>")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, stacks: bool = False) -> Html:
    """A table that a narrow screen scrolls, or, where its cells speak for themselves, shows below each other
    (``stacks``). Cells that are not elements become plain ones."""
    head = el("tr", *(el("th", each) for each in heads))
    body = [
        el("tr", *(each if each.startswith("<td") and isinstance(each, Html) else el("td", each) for each in row))
        for row in rows
    ]
    return el("div", el("table", el("thead", head), el("tbody", *body)), class_="wide stacks" if stacks else "wide")


def lines(texts: Iterable[str]) -> Html:
    """Lines below each other."""
    return el("ul", *(el("li", text) for text in texts))


def document(language: Language, title: str, *body: str) -> bytes:
    """The whole page."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_css()}</style>"
    )
    page = el(
        "html", el("head", Html(head)), el("body", el("h1", title), *body), lang=language.code, dir=language.direction
    )
    return b"<!doctype html>\n" + page.encode()


@cache
def headers() -> dict[str, str]:
    """Of every page. Nothing of it is kept by others than its reader, nor told to other hosts."""
    digest = b64encode(hashlib.sha256(_css().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


@cache
def _css() -> str:
    return files("gateway").joinpath("page.css").read_text("utf-8")


def _joined(children: Iterable[str]) -> str:
    return "".join(child if isinstance(child, Html) else escape(child) for child in children)
