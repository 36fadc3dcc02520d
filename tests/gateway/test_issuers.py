"""Tokens of others: the ones that are refused are the point."""

from __future__ import annotations

import asyncio
import base64
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from config.issuer import Issuer
from gateway.errors import Refusal
from gateway.issuers import Issuers, KeysUnavailable, TokenError, TokenExpired, refusal_of, verify_openwebui

SECRET = "s" * 32
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(private: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid, **more}


class KeyServer:
    """Publishes a set of keys on a real socket, and counts who asks."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(RSA, "one")]
        self.asked = 0
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"keys": outer.keys}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def secret_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", SECRET)


def issuer(**fields: Any) -> Issuer:
    return Issuer(**({"name": "acme", "issuer": "https://acme/", "audience": "farebox"} | fields))


def shared(**fields: Any) -> Issuers:
    return Issuers([issuer(algorithm="HS256", secret_env="A_SECRET", **fields)])


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, with these changes; None takes a claim away."""
    good = {"iss": "https://acme/", "aud": "farebox", "sub": "u1", "exp": int(time.time()) + 60}
    return {
        name: value for name, value in (good | {"email": "a@b", "name": "Ann"} | changes).items() if value is not None
    }


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    # Below the level that would refuse to encode wrong claims.
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), key, algorithm=algorithm, headers=headers)


def forged(header: dict[str, Any], **changes: Any) -> str:
    """A token put together by hand, with an empty signature."""
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, claims(**changes))
    )
    return ".".join((*parts, ""))


async def test_a_good_token_names_its_user() -> None:
    sighting = (await shared().verify(signed())).sighting
    assert (sighting.realm, sighting.subject, sighting.email, sighting.name) == ("acme", "u1", "a@b", "Ann")


async def test_the_claims_to_read_can_be_chosen() -> None:
    issuers = shared(subject_claim="oid", email_claim="upn", name_claim="nick")
    sighting = (await issuers.verify(signed(oid="o1", upn="x@y", nick="N"))).sighting
    assert (sighting.subject, sighting.email, sighting.name) == ("o1", "x@y", "N")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"aud": "somebody"}, "somebody else"),
        ({"aud": None}, "lacks the claim aud"),
        ({"exp": None}, "lacks the claim exp"),
        ({"exp": 1e400}, "does not follow"),
        ({"iss": "https://evil/"}, "not known here"),
        ({"iss": None}, "not known here"),
        ({"iss": ["https://acme/"]}, "not known here"),
        ({"nbf": int(time.time()) + 3600}, "does not follow"),
        ({"sub": None}, "does not name its user"),
        ({"sub": ""}, "does not name its user"),
        ({"sub": "x" * 256}, "does not name its user"),
        ({"sub": "a\x00b"}, "does not name its user"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(TokenError, match=told):
        await shared().verify(signed(**changes))


async def test_an_expired_token_is_told_to_be_expired() -> None:
    with pytest.raises(TokenExpired):
        await shared().verify(signed(exp=int(time.time()) - 60))


async def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    assert (await shared().verify(signed(exp=int(time.time()) - 3))).sighting.subject == "u1"


async def test_a_token_signed_with_another_secret_is_refused() -> None:
    with pytest.raises(TokenError, match="signature"):
        await shared().verify(signed("t" * 32))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
async def test_a_token_without_a_signature_is_refused(algorithm: str) -> None:
    with pytest.raises(TokenError):
        await shared().verify(forged({"alg": algorithm, "typ": "JWT"}))


async def test_only_the_issuers_own_algorithm_is_accepted() -> None:
    with pytest.raises(TokenError, match="signature"):
        await shared().verify(signed("s" * 64, "HS512"))


@pytest.mark.parametrize("text", ["", "a.b.c", "..", "e30.e30.", "x" * 20_000, "[" * 9000 + ".e30.e30"])
async def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        await shared().verify(text)


async def test_unprintable_or_endless_names_count_as_not_said() -> None:
    sighting = (await shared().verify(signed(email="a\nb", name="x" * 321))).sighting
    assert (sighting.email, sighting.name) == ("", "")


async def test_a_published_key_verifies_and_is_fetched_once(key_server: KeyServer) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    for number in range(5):
        token = signed(RSA, "RS256", {"kid": "one"}, sub=f"u{number}")
        assert (await issuers.verify(token)).sighting.subject == f"u{number}"
    assert key_server.asked == 1


async def test_a_public_key_used_as_a_shared_secret_proves_nothing(key_server: KeyServer) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, header + b"." + body, "sha256")).rstrip(b"=")
    with pytest.raises(TokenError, match="signature"):
        await issuers.verify(b".".join((header, body, signature)).decode())


@pytest.mark.parametrize("headers", [{"kid": "two"}, {}, {"kid": ["one"]}, {"kid": 1}])
async def test_a_key_that_is_not_published_proves_nothing(key_server: KeyServer, headers: dict[str, Any]) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    token = signed(OTHER_RSA, "RS256") if not headers else ""
    if headers:
        token = forged({"alg": "RS256", **headers})
    with pytest.raises(TokenError):
        await issuers.verify(token)


async def test_another_key_under_a_published_name_proves_nothing(key_server: KeyServer) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    with pytest.raises(TokenError, match="signature"):
        await issuers.verify(signed(OTHER_RSA, "RS256", {"kid": "one"}))


async def test_keys_named_by_the_token_itself_are_never_looked_at(key_server: KeyServer) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    evil = KeyServer()
    evil.keys = [jwk(OTHER_RSA, "one")]
    headers = {"kid": "one", "jku": evil.address, "x5u": evil.address, "jwk": jwk(OTHER_RSA, "one")}
    with pytest.raises(TokenError, match="signature"):
        await issuers.verify(signed(OTHER_RSA, "RS256", headers))
    evil.close()
    assert evil.asked == 0


async def test_a_published_key_of_another_kind_or_use_proves_nothing(key_server: KeyServer) -> None:
    oct_key = {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="), "kid": "oct"}
    key_server.keys = [jwk(EC, "ec"), jwk(RSA, "enc", use="enc"), oct_key, jwk(OTHER_RSA, "good")]
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    for kid, key in (("ec", RSA), ("enc", RSA), ("oct", RSA)):
        with pytest.raises(TokenError, match="not known here"):
            await issuers.verify(signed(key, "RS256", {"kid": kid}))


async def test_unknown_key_names_do_not_make_us_fetch_again_and_again(key_server: KeyServer) -> None:
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    for number in range(10):
        with pytest.raises(TokenError):
            await issuers.verify(signed(RSA, "RS256", {"kid": f"unknown-{number}"}))
    assert key_server.asked <= 2


async def test_keys_that_cannot_be_fetched_are_no_verdict_and_are_not_fetched_by_everybody(
    key_server: KeyServer,
) -> None:
    key_server.status = 503
    issuers = Issuers([issuer(algorithm="RS256", jwks_url=key_server.address, allow_private=True)])
    tokens = [signed(RSA, "RS256", {"kid": "one"}, sub=f"u{number}") for number in range(20)]
    answers = await asyncio.gather(*(issuers.verify(token) for token in tokens), return_exceptions=True)
    assert {type(answer) for answer in answers} == {KeysUnavailable}
    assert key_server.asked == 1


@pytest.mark.parametrize(
    ("claims", "issued_at"),
    [({"iat": 1_700_000_000}, 1_700_000_000.0), ({"iat": 1_700_000_000.5}, 1_700_000_000.5), ({}, None)],
)
async def test_a_token_may_say_when_it_was_issued(claims: dict[str, Any], issued_at: float | None) -> None:
    issuers = shared()
    for _ in range(2):  # proven, then remembered
        assert (await issuers.verify(signed(**claims))).issued_at == issued_at


async def test_keys_in_a_file_verify(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [jwk(EC, "ec")]}))
    issuers = Issuers([issuer(algorithm="ES256", jwks_file=path)])
    assert (await issuers.verify(signed(EC, "ES256"))).sighting.subject == "u1"
    with pytest.raises(TokenError, match="not known here"):
        await issuers.verify(signed(EC, "ES256", {"kid": "other"}))


def test_a_file_of_keys_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(ValueError, match="issuer acme"):
        Issuers([issuer(algorithm="RS256", jwks_file=tmp_path / "keys.json")])


async def test_each_issuer_vouches_for_its_own_users_only() -> None:
    other = issuer(name="other", issuer="https://other/", algorithm="HS256", secret_env="A_SECRET", audience="other")
    issuers = Issuers([issuer(algorithm="HS256", secret_env="A_SECRET"), other])
    assert (await issuers.verify(signed(iss="https://other/", aud="other"))).sighting.realm == "other"
    with pytest.raises(TokenError, match="somebody else"):
        await issuers.verify(signed(iss="https://other/", aud="farebox"))


async def test_a_verdict_is_remembered_no_longer_than_the_token_lives() -> None:
    issuers, token = shared(), signed(exp=int(time.time()) + 60)
    await issuers.verify(token)
    digest, now = sha256(token.encode()).digest(), time.monotonic()
    assert issuers._verdicts.get(digest, now + 50) is not None
    assert issuers._verdicts.get(digest, now + 71) is None


async def test_a_verdict_on_a_token_of_weeks_is_looked_at_again_within_minutes() -> None:
    issuers, token = shared(), signed(exp=int(time.time()) + 28 * 86_400)
    await issuers.verify(token)
    assert issuers._verdicts.get(sha256(token.encode()).digest(), time.monotonic() + 301) is None


async def test_memory_of_verdicts_is_bounded() -> None:
    issuers = Issuers([issuer(algorithm="HS256", secret_env="A_SECRET")], remembered_max=3)
    for number in range(10):
        await issuers.verify(signed(sub=f"u{number}"))
    assert len(issuers._verdicts) == 3


def test_the_signed_header_of_open_webui_names_its_user() -> None:
    body = {"sub": "u", "email": "a@b", "name": "Bob Müller", "role": "admin", "iss": "open-webui"}
    token = jwt.encode(body | {"exp": time.time() + 60}, SECRET, "HS256")
    assert verify_openwebui(token, SecretStr(SECRET), "owui").name == "Bob Müller"
    assert verify_openwebui(token, SecretStr(SECRET), "owui").realm == "owui"


@pytest.mark.parametrize(
    "changes", [{"iss": "other"}, {"iss": None}, {"exp": None}, {"exp": 1}, {"sub": None}, {"aud": "x"}]
)
def test_a_signed_header_with_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    good = {"sub": "u", "iss": "open-webui", "exp": int(time.time()) + 60}
    body = {name: value for name, value in (good | changes).items() if value is not None}
    with pytest.raises(TokenError):
        verify_openwebui(jwt.encode(body, SECRET, "HS256"), SecretStr(SECRET), "owui")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TokenExpired("expired"), "key_expired"),
        (TokenError("bad"), "invalid_api_key"),
        (KeysUnavailable("https://a"), "ledger_unavailable"),
    ],
)
def test_every_failure_has_its_refusal(error: TokenError | KeysUnavailable, code: str) -> None:
    refusal = refusal_of(error)
    assert isinstance(refusal, Refusal) and refusal.code == code
