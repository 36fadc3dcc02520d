"""Keys: their form, what is kept of them, and that only the right one proves anything."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from accounts.keys import Key, digest_of, fingerprint, looks_like_key, mint, parse, proves

PEPPER = b"p" * 32


def test_a_minted_key_is_read_back() -> None:
    for _ in range(200):
        full, prefix, secret = mint()
        assert re.fullmatch(r"sk-fb-[a-z2-7]{12}-[0-9A-Za-z]{49}", full)
        assert parse(full) == (prefix, secret) and len(secret) == 32


def test_no_two_keys_are_alike() -> None:
    assert len({mint().secret for _ in range(100)}) == 100


def test_any_single_wrong_character_is_noticed_without_a_database() -> None:
    full = mint().full
    for place, character in enumerate(full):
        wrong = "x" if character != "x" else "y"
        assert parse(full[:place] + wrong + full[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "sk-fb-", "sk-" + "a" * 60, "sk-fb-" + "é" * 62, "sk-fb-" + "a" * 62, "a.b.c"])
def test_other_text_is_no_key(text: str) -> None:
    assert parse(text) is None


def test_a_longer_or_shorter_key_is_none() -> None:
    full = mint().full
    assert parse(full + "0") is None and parse(full[:-1]) is None and parse(" " + full) is None


def test_what_is_meant_as_a_key_is_recognised() -> None:
    assert looks_like_key(mint().full) and not looks_like_key("eyJhbGciOi")


def test_only_the_secret_under_the_same_pepper_proves_a_key() -> None:
    secret = mint().secret
    digest = digest_of(PEPPER, secret)
    assert proves(PEPPER, secret, digest)
    assert not proves(PEPPER, mint().secret, digest)
    assert not proves(b"q" * 32, secret, digest)


def test_a_key_that_does_not_exist_is_never_proven() -> None:
    assert not proves(PEPPER, mint().secret, None)


def test_the_fingerprint_tells_peppers_apart_and_is_not_the_pepper() -> None:
    assert fingerprint(PEPPER) == fingerprint(PEPPER) != fingerprint(b"q" * 32)
    assert PEPPER not in fingerprint(PEPPER)


def test_a_key_forwards_users_only_by_its_scope() -> None:
    assert Key(UUID(int=1), "p", b"", scopes=("forward_users",)).forwards_users
    assert not Key(UUID(int=1), "p", b"", scopes=("account",), realm="r").forwards_users


@pytest.mark.parametrize(
    ("scopes", "effective"),
    [
        ((), {"inference", "account"}),
        (("account",), {"account"}),
        (("charges",), {"charges"}),
        (("forward_users",), {"forward_users", "inference", "account"}),
        (("impersonation",), {"impersonation", "inference", "account"}),
        (("charges", "forward_users", "inference"), {"charges", "forward_users", "inference", "account"}),
    ],
)
def test_who_was_given_no_scope_or_acts_for_users_calls_models_and_reads_the_account(
    scopes: tuple[str, ...], effective: set[str]
) -> None:
    assert set(Key(UUID(int=1), "p", b"", scopes=scopes).effective_scopes) == effective


def test_a_rotated_key_counts_as_the_first_of_its_line() -> None:
    assert Key(UUID(int=1), "p", b"").counted_as == UUID(int=1)
    assert Key(UUID(int=2), "p", b"", rotated_from=UUID(int=1)).counted_as == UUID(int=1)
