"""The catalogue as an operator writes it: exact money, rolling windows, and everything wrong at once."""

from __future__ import annotations

import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

import config
from config.catalog import Declared, Rates
from config.catalog_file import read_catalog
from config.complaints import ComplaintsError
from config.price_form import KindsForm
from config.toml_file import read_toml
from config.vocabularies import EXTRA
from gateway.tokens import ENCODINGS
from ledger.price import Step
from ledger.usage import KINDS
from policies.tier import Allowance, Window

BACKEND = '[[upstreams]]\nname = "u"\nbase_url = "http://backend.example/v1/"\n'
MODEL = BACKEND + '[[models]]\nid = "m"\nupstream = "u"\n'
TIER = '[[tiers]]\nname = "t"\n'


def read(text: str, default_tier: str | None = None) -> Declared:
    return read_catalog(tomllib.loads(text, parse_float=Decimal), default_tier=default_tier)


def complaints(text: str, default_tier: str | None = None) -> dict[str, str]:
    with pytest.raises(ComplaintsError) as caught:
        read(text, default_tier)
    return {complaint.where: complaint.what for complaint in caught.value.complaints}


def test_the_example_file_is_right() -> None:
    example = Path(config.__file__).with_name("farebox.example.toml")
    declared = read_catalog(read_toml(example), default_tier="free")
    assert set(KindsForm.model_fields) == set(KINDS)
    assert declared.rates["gpt-4o-mini"] == Rates({"input": 150_000, "cache_read": 75_000, "output": 600_000})


def test_an_empty_file_declares_nothing() -> None:
    assert read("", default_tier="free") == Declared()


def test_a_model_is_named_as_its_backend_names_it_unless_told() -> None:
    declared = read(MODEL)
    assert declared.models[0].upstream_model == "m"
    assert declared.upstreams[0].base_url == "http://backend.example/v1"


def test_a_model_without_prices_has_none_and_not_zero() -> None:
    assert read(MODEL).rates == {}
    assert read(MODEL + "prices = {}").rates == {"m": Rates()}


@pytest.mark.parametrize("written", ['"0.0375"', "0.0375"])
def test_a_price_is_exact_as_text_and_as_a_number(written: str) -> None:
    assert read(MODEL + f"prices = {{input = {written}, per_request = {written}}}").rates == {
        "m": Rates({"input": 37_500}, 37_500_000)
    }


def test_images_seconds_and_searches_are_priced_by_the_one_and_all_else_by_the_million() -> None:
    written = 'prices = {images="0.04", seconds="0.0001", web_searches="0.01", characters="15", input="2"}'
    assert read(MODEL + written).rates["m"].pico == {
        "images": 4 * 10**10,
        "seconds": 10**8,
        "web_searches": 10**10,
        "characters": 15 * 10**6,
        "input": 2 * 10**6,
    }


def test_a_price_has_a_long_context_step_and_variants() -> None:
    written = (
        '[models.prices]\ninput = "1"\nlong_context = {above = 200_000, input = "2"}\n'
        'variants = {flex = {input = "0.5"}, "1024x1024/hd" = {images = "0.08"}}'
    )
    assert read(MODEL + written).rates["m"] == Rates(
        {"input": 10**6},
        0,
        Step(200_000, {"input": 2 * 10**6}),
        {"flex": {"input": 500_000}, "1024x1024/hd": {"images": 8 * 10**10}},
    )


@pytest.mark.parametrize(
    ("written", "window"),
    [
        ('{limit=60, of="requests", per="minute"}', Window(60, "requests", 60)),
        ('{limit=5, of="tokens", per="month", models=["a*"]}', Window(5, "tokens", 2_592_000, models=("a*",))),
        ('{limit=1, of="output_tokens", per=90, route="embeddings"}', Window(1, "output_tokens", 90, "embeddings")),
        ('{limit="0.05", of="cost", per="day"}', Window(50_000_000, "cost", 86_400)),
    ],
)
def test_a_window_says_its_length_in_words_or_seconds(written: str, window: Window) -> None:
    assert read(TIER + f"windows = [{written}]").tiers[0].windows == (window,)


def test_an_allowance_and_a_markup_become_whole_numbers() -> None:
    tier = read(TIER + 'allowance = {usd="1.00", every="week", zone="Asia/Kolkata", anchor=7}\nmarkup = "1.2"').tiers[0]
    assert tier.allowance == Allowance(10**9, "usd", "week", "Asia/Kolkata", 7)
    assert tier.markup_ppm == 1_200_000


@pytest.mark.parametrize(
    ("written", "allowance"),
    [
        ('{usd="5", anchor="anniversary"}', Allowance(5 * 10**9, anniversary=True)),
        ('{tokens=1000, every="month", zone="Europe/Berlin"}', Allowance(1000, "tokens", zone="Europe/Berlin")),
        ('{tokens=7, every="week", anchor="anniversary"}', Allowance(7, "tokens", "week", anniversary=True)),
        ("{tokens=0}", Allowance(0, "tokens")),
    ],
)
def test_an_allowance_is_money_or_tokens_by_the_calendar_or_by_anniversary(written: str, allowance: Allowance) -> None:
    tier = read(TIER + f'allowance = {written}\nprice = "20"\nprice_every = "year"').tiers[0]
    assert (tier.allowance, tier.price_every) == (allowance, "year")


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    told = complaints(
        '[[upstreams]]\nname = "a"\nbase_url = "ftp://x"\nhedaers = {}\n'
        '[[models]]\nid = "m"\nupstream = "a"\nfallback = "n"\nprices = {inputt="1", input="-1", output="0.00000001"}\n'
        '[[models]]\nid = "n"\nupstream = "b"\nfallback = "m"\n'
        '[[models]]\ntitle = "x"\n'
        '[[tiers]]\nname = "t"\nupgrade_to = "zz"\nmarkup = "1.23456789"\n'
        'windows = [{limit=1.5, of="requests", per="minute"}, {limit="-5", of="cost", per="fortnight"}]\n'
        'allowance = {usd="x", zone="Mars/A"}\n',
        default_tier="free",
    )
    assert told["upstreams[0].base_url"] == "must be an http:// or https:// address"
    assert told["upstreams[0].hedaers"] == "is not a setting; did you mean headers?"
    assert told["models[0].prices.input"] == "a price must not be negative"
    assert told["models[0].prices.inputt"] == "is not a setting; did you mean input?"
    assert "more than 6 decimals" in told["models[0].prices.output"]
    assert told["models[0].fallback"] == "the fallbacks of m lead back to it"
    assert told["models[1].upstream"] == "there is no upstream b"
    assert told["models[2].id"] == "is missing"
    assert told["tiers[0].upgrade_to"] == "there is no tier zz"
    assert "at most six decimals" in told["tiers[0].markup"]
    assert told["tiers[0].windows[0]"] == "the limit of requests must be a whole number"
    assert told["tiers[0].windows[1].per"].startswith("must be one of second, minute")
    assert "IANA" in told["tiers[0].allowance.zone"] and "tiers[0].allowance.usd" in told
    assert told["tiers"] == "the default tier free is not among them"


def test_a_broken_entry_is_not_told_to_be_missing_as_well() -> None:
    assert set(complaints(MODEL.replace("http://", "ftp://"))) == {"upstreams[0].base_url"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('upstreams = "x"', "upstreams"),
        ('[[upstreams]]\nname = "u"\nbase_url = "http://user:pw@h"', "upstreams[0].base_url"),
        (BACKEND + 'headers = {"bad name" = "x"}', "upstreams[0].headers"),
        (BACKEND + 'headers = {a = "x\\r\\ny: z"}', "upstreams[0].headers"),
        (BACKEND + BACKEND, "upstreams[1].name"),
        (MODEL + 'prices = {input = "1e12"}', "models[0].prices.input"),
        (MODEL + 'prices = {images = "1001"}', "models[0].prices.images"),
        (MODEL + 'prices = {images = "-0.04"}', "models[0].prices.images"),
        (MODEL + 'prices = {long_context = {input = "1"}}', "models[0].prices.long_context.above"),
        (MODEL + "prices = {long_context = {above = 0}}", "models[0].prices.long_context.above"),
        (MODEL + 'prices = {variants = {flex = {input = "-1"}}}', "models[0].prices.variants.flex.input"),
        (MODEL + 'prices = {variants = {flex = {per_request = "1"}}}', "models[0].prices.variants.flex.per_request"),
        (MODEL + "prices = {input = true}", "models[0].prices.input"),
        (MODEL + 'tokenizer_factor = "a lot"', "models[0].tokenizer_factor"),
        (MODEL + 'kind = "poem"', "models[0].kind"),
        (TIER + 'allowance = {usd="1", every="year", anchor=3}', "tiers[0].allowance"),
        (TIER + 'allowance = {usd="1", every="day", anchor="anniversary"}', "tiers[0].allowance"),
        (TIER + 'allowance = {usd="1", tokens=1}', "tiers[0].allowance"),
        (TIER + 'allowance = {every="day"}', "tiers[0].allowance"),
        (TIER + "allowance = {tokens=-1}", "tiers[0].allowance.tokens"),
        (TIER + 'windows = [{limit=1, of="requests", per=60, scope="key:x"}]', "tiers[0].windows[0].scope"),
        (TIER + 'price_every = "day"', "tiers[0].price_every"),
        (TIER + 'windows = [{limit=-1, of="tokens", per="day"}]', "tiers[0].windows[0]"),
        (TIER + 'features = ["telepathy"]', "tiers[0].features[0]"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_its_place(text: str, where: str) -> None:
    assert set(complaints(text)) == {where}


@pytest.mark.parametrize(("name", "why"), [("r50k_base", "o200k_base"), ("llama3", "install 'farebox[tokenizers]'")])
def test_a_tokenizer_that_is_not_there_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)
    told = complaints(MODEL + f'tokenizer = "{name}"\nprices = {{input = "1"}}')
    assert told.keys() == {"models[0].tokenizer"} and why in told["models[0].tokenizer"]


def test_every_tokenizer_that_is_installed_may_be_named() -> None:
    for name in (*ENCODINGS, *EXTRA):
        assert read(MODEL + f'tokenizer = "{name}"').models[0].tokenizer == name
