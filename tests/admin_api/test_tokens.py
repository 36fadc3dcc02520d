"""The two tokens of a login."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_api.secret import derived
from admin_api.tokens import ACCESS_S, Tokens

PEPPER = b"p" * 32
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADMIN, SESSION = UUID(int=1), UUID(int=2)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(PEPPER)


def test_an_access_token_says_who_and_in_which_session(tokens: Tokens) -> None:
    token = tokens.access(ADMIN, "owner", SESSION, NOW)
    assert tokens.read_access(token, NOW) == (ADMIN, SESSION, False)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {
        "sub": str(ADMIN), "role": "owner", "sid": str(SESSION), "aud": "farebox-admin",
        "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + ACCESS_S,
    }  # fmt: skip


def test_an_access_token_is_good_for_a_quarter_of_an_hour(tokens: Tokens) -> None:
    token = tokens.access(ADMIN, "owner", SESSION, NOW)
    for seconds, expired in ((ACCESS_S - 1, False), (ACCESS_S, True)):
        access = tokens.read_access(token, NOW + timedelta(seconds=seconds))
        assert access is not None and access.expired is expired


def forged(**changes: object) -> str:
    """A token of ours in everything but the changes."""
    claims = {"sub": str(ADMIN), "role": "owner", "sid": str(SESSION), "aud": "farebox-admin", "iat": 0, "exp": 2**33}
    claims |= changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, derived(PEPPER, "access token"), "HS256")


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in ("sub", "role", "sid", "iat", "exp", "aud")),
        {"aud": "farebox"},
        {"sub": "nobody"},
        {"sid": 7},
        {"exp": "soon"},
        {"exp": 10**30},
    ],
    ids=str,
)
def test_a_token_that_lacks_something_is_none_of_ours(tokens: Tokens, changes: dict[str, object]) -> None:
    assert tokens.read_access(forged(), NOW) is not None
    assert tokens.read_access(forged(**changes), NOW) is None


def test_no_other_key_and_no_other_algorithm_is_accepted(tokens: Tokens) -> None:
    theirs = Tokens(b"q" * 32).access(ADMIN, "owner", SESSION, NOW)
    claims = jwt.decode(theirs, options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", "none")
    other = jwt.encode(claims, derived(PEPPER, "access token") * 2, "HS512")
    for token in (theirs, unsigned, other, "", "a.b.c", "é"):
        assert tokens.read_access(token, NOW) is None


def test_a_refresh_token_names_its_session_and_generation(tokens: Tokens) -> None:
    token, digest = tokens.refresh(SESSION, 7)
    assert tokens.read_refresh(token) == (SESSION, 7, digest)
    assert len(digest) == 32 and base64.urlsafe_b64encode(digest).decode().rstrip("=") not in token


def test_two_refresh_tokens_of_one_generation_differ(tokens: Tokens) -> None:
    assert tokens.refresh(SESSION, 1) != tokens.refresh(SESSION, 1)


@given(st.integers(0, 90), st.sampled_from("abcXYZ019-_"))
def test_a_refresh_token_with_another_letter_is_none_of_ours(at: int, letter: str) -> None:
    tokens = Tokens(PEPPER)
    token, _ = tokens.refresh(SESSION, 1)
    at %= len(token)
    spoilt = token[:at] + letter + token[at + 1 :]
    read = tokens.read_refresh(spoilt)
    # Base64 leaves a few bits of the last letter unused; what decodes to the same bytes is the same token.
    assert read is None or spoilt == token or (at == len(token) - 1 and read == tokens.read_refresh(token))


@pytest.mark.parametrize("text", ["", "fbr_", "fbr_é", "fbr_" + "A" * 91, "A" * 91, "fbr_===", "fbr_" + "A" * 5000])
def test_what_only_looks_like_one_is_none_of_ours(tokens: Tokens, text: str) -> None:
    assert tokens.read_refresh(text) is None


def test_a_refresh_token_of_another_pepper_is_none_of_ours(tokens: Tokens) -> None:
    assert tokens.read_refresh(Tokens(b"q" * 32).refresh(SESSION, 1)[0]) is None
