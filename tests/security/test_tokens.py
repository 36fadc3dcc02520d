"""Tokens that claim to be something else: of an issuer, of Open WebUI, of an admin's login."""

from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from admin_api.tokens import Tokens
from config.issuer import Issuer
from gateway.issuers import Issuers, TokenError, verify_openwebui
from tests.house import PEPPER, Farebox

SECRET = "s" * 32
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def part(value: Any) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def made(header: dict[str, Any], claims: Any, secret: bytes = SECRET.encode(), digest: str = "sha256") -> str:
    """A token put together by hand, signed with an HMAC."""
    signed = part(header) + b"." + part(claims)
    return (signed + b"." + part(hmac.digest(secret, signed, digest))).decode()


def claims(**changes: Any) -> dict[str, Any]:
    good = {"iss": "https://acme/", "aud": "farebox", "sub": "u1", "exp": int(time.time()) + 60}
    return {name: value for name, value in (good | changes).items() if value is not None}


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Issuers:
    monkeypatch.setenv("A_SECRET", SECRET)
    fields = {"name": "acme", "issuer": "https://acme/", "audience": "farebox"}
    return Issuers([Issuer.model_validate(fields | {"algorithm": "HS256", "secret_env": "A_SECRET"})])


@pytest.fixture
def published(tmp_path: Path) -> Issuers:
    key = {**jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "one"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    fields = {"name": "acme", "issuer": "https://acme/", "audience": "farebox", "algorithm": "RS256"}
    return Issuers([Issuer.model_validate(fields | {"jwks_file": tmp_path / "keys.json"})])


HEADERS: dict[str, dict[str, Any]] = {
    "none": {"alg": "none"},
    "None": {"alg": "None"},
    "no algorithm": {"typ": "JWT"},
    "a list": {"alg": ["HS256"]},
    "another digest": {"alg": "HS512"},
    "an asymmetric one": {"alg": "RS256"},
    "encrypted": {"alg": "dir", "enc": "A256GCM"},
    "critical": {"alg": "HS256", "crit": ["exp"], "exp": 1},
    "critical and unknown": {"alg": "HS256", "crit": ["http://evil"], "http://evil": True},
    "not encoded": {"alg": "HS256", "b64": False, "crit": ["b64"]},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_a_header_chooses_neither_algorithm_nor_rules(shared: Issuers, header: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        await shared.verify(made(header, claims()))
    unsigned = f"{part(header).decode()}.{part(claims()).decode()}."
    with pytest.raises(TokenError):
        await shared.verify(unsigned)
    with pytest.raises(TokenError):
        verify_openwebui(made(header, claims(iss="open-webui")), SecretStr(SECRET), "realm")


KIDS = [
    "../../../../dev/null",
    "/proc/self/environ",
    "' OR 1=1 --",
    "one'; SELECT 1",
    "http://evil/keys",
    "",
    "\0",
    "two",
]


@pytest.mark.parametrize("kid", KIDS)
async def test_the_name_of_a_key_is_a_name_and_nothing_else(published: Issuers, kid: str) -> None:
    for secret in (b"", PEM, b"\0"):
        with pytest.raises(TokenError):
            await published.verify(made({"alg": "HS256", "kid": kid}, claims(), secret))
    with pytest.raises(TokenError):
        await published.verify(jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": kid}))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_public_key_is_no_shared_secret(published: Issuers, algorithm: str) -> None:
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (PEM, PEM.strip(), der):
        token = made({"alg": algorithm, "kid": "one"}, claims(), secret, f"sha{algorithm[2:]}")
        with pytest.raises(TokenError):
            await published.verify(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True, "nbf": True},
        {"exp": 1e400},
        {"exp": -1},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"iat": "now"},
        {"aud": "others"},
        {"aud": ["others"]},
        {"aud": {"farebox": True}},
        {"aud": None},
        {"iss": "https://acme"},
        {"iss": ["https://acme/"]},
        {"sub": ["u1"]},
        {"sub": {"$ne": ""}},
        {"sub": "u1\nadmin"},
        {"sub": ""},
        {"sub": "u" * 10_000},
    ],
)
async def test_a_claim_that_is_not_as_its_issuer_makes_it_proves_nothing(
    shared: Issuers, changes: dict[str, Any]
) -> None:
    with pytest.raises(TokenError):
        await shared.verify(made({"alg": "HS256"}, claims(**changes)))


@pytest.mark.parametrize("text", [b"[]", b"1", b'"a"', b"null", b"{" * 3000, b"\xff", b'{"iss":' + b"9" * 5000 + b"}"])
async def test_what_is_signed_and_no_object_proves_nothing(shared: Issuers, text: bytes) -> None:
    with pytest.raises(TokenError):
        await shared.verify(made({"alg": "HS256"}, text))
    with pytest.raises(TokenError):
        verify_openwebui(made({"alg": "HS256"}, text), SecretStr(SECRET), "realm")


def test_open_webuis_word_for_a_user_is_signed_by_it_and_by_nobody_else() -> None:
    good = claims(iss="open-webui", aud=None)
    assert verify_openwebui(made({"alg": "HS256"}, good), SecretStr(SECRET), "realm").subject == "u1"
    for token in (
        made({"alg": "HS256"}, good, b"t" * 32),
        made({"alg": "HS256"}, good, b""),
        made({"alg": "HS256", "jwk": {"kty": "oct", "k": "dA"}}, good, b"t"),
        made({"alg": "HS256"}, {**good, "exp": int(time.time()) - 60}),
        made({"alg": "HS256"}, good | {"iss": "somebody"}),
        made({"alg": "HS256"}, {key: value for key, value in good.items() if key != "exp"}),
    ):
        with pytest.raises(TokenError):
            verify_openwebui(token, SecretStr(SECRET), "realm")


async def test_no_token_made_outside_opens_the_admin_api(farebox: Farebox) -> None:
    """Whatever it claims, with whatever an outsider may know or guess as the secret."""
    now, tokens = int(time.time()), Tokens(PEPPER.encode())
    good: dict[str, Any] = {"aud": "farebox-admin", "sub": str(uuid4()), "sid": str(uuid4()), "role": "owner"}
    good |= {"iat": now, "exp": now + 600}
    for header in (*HEADERS.values(), {"alg": "HS256"}):
        forged = [made(header, good, secret) for secret in (b"", b"secret", SECRET.encode(), PEM, PEPPER.encode())]
        unsigned = f"{part(header).decode()}.{part(good).decode()}."
        for token in (*forged, unsigned):
            assert tokens.read_access(token, datetime.now(UTC)) is None
    assert (await farebox.admin.bearing(made({"alg": "HS256"}, good)).get("/users")).status == 401


async def test_a_true_token_of_no_session_opens_nothing(farebox: Farebox) -> None:
    token = Tokens(PEPPER.encode()).access(uuid4(), "owner", uuid4(), datetime.now(UTC))
    assert (await farebox.admin.bearing(token).get("/users")).status == 401
