"""The issuers of the settings: one source of keys of the algorithm's kind, and no way round it."""

from __future__ import annotations

import pytest

from config.settings import load_settings
from tests.config.told import complaints, write

pytestmark = pytest.mark.usefixtures("bare")


ISSUER = '[[issuers]]\nname = "a"\nissuer = "https://a/"\naudience = "farebox"\n'


def test_an_issuer_with_a_secret_reads_it_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    write(ISSUER + 'algorithm = "HS256"\nsecret_env = "A_SECRET"\n')
    assert "must hold at least 32 characters" in complaints()["issuers[0]"]
    monkeypatch.setenv("A_SECRET", "s" * 32)
    (issuer,) = load_settings().issuers
    assert issuer.secret is not None and issuer.secret.get_secret_value() == "s" * 32
    assert "ssss" not in repr(issuer)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('algorithm = "RS256"', "needs either jwks_url or jwks_file"),
        ('algorithm = "RS256"\nsecret_env = "A_SECRET"', "needs either jwks_url or jwks_file"),
        ('algorithm = "HS256"\njwks_url = "https://a/k"', "needs secret_env and nothing else"),
    ],
)
def test_an_issuer_has_exactly_one_source_of_keys_of_its_kind(lines: str, told: str) -> None:
    write(ISSUER + lines)
    assert told in complaints()["issuers[0]"]


def test_an_issuers_algorithm_is_one_and_never_none() -> None:
    write(ISSUER + 'algorithm = "none"\njwks_url = "https://a/k"')
    assert set(complaints()) == {"issuers[0].algorithm"}


def test_keys_are_not_fetched_in_the_clear() -> None:
    write(ISSUER + 'algorithm = "RS256"\njwks_url = "http://login.example.com/k"')
    assert "must begin with https://" in complaints()["issuers[0].jwks_url"]


def test_keys_inside_are_fetched_only_where_it_is_said() -> None:
    inside = ISSUER + 'algorithm = "RS256"\njwks_url = "http://127.0.0.1:1/k"\n'
    write(inside)
    assert "allow_private = true" in complaints()["issuers[0]"]
    write(inside + "allow_private = true\n")
    assert load_settings().issuers[0].allow_private


def test_two_issuers_may_not_share_a_name_or_a_claim() -> None:
    write(2 * (ISSUER + 'algorithm = "RS256"\njwks_url = "https://a/k"\n'))
    assert complaints() == {"issuers": "two of them have the same name"}
