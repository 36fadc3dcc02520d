"""The picture shows everybody in every measure."""

from __future__ import annotations

from xml.etree import ElementTree

from bench.plot import plot
from tests.bench.results import CALLS, measured

SVG = "{http://www.w3.org/2000/svg}"


def test_everybody_has_a_bar_as_long_as_its_figure_on_the_scale() -> None:
    picture = ElementTree.fromstring(plot([CALLS]))
    bars = picture.findall(f".//{SVG}g/{SVG}rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    direct, farebox, relay, litellm = widths
    assert direct > relay > farebox > litellm > 0
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"calls", "farebox", "4 000", "80 000"} <= set(words)
    assert "replies in one piece, 64 connections, 64 wallets: calls/s, more is better" in words


def test_what_was_skipped_has_no_place_and_nothing_is_a_picture_too() -> None:
    skipped = measured("workers")
    skipped.skipped = "no"
    assert ElementTree.fromstring(plot([skipped])).attrib["height"] == "10"


def test_names_are_escaped_and_nought_has_a_bar() -> None:
    odd = measured("held", {"<farebox>": {"streams": 0}, "b": {"streams": 10}})
    picture = ElementTree.fromstring(plot([odd]))
    assert "<farebox>" in [text.text for text in picture.iter(f"{SVG}text")]
