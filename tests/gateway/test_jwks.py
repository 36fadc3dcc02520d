"""Published keys, fetched over real sockets: within bounds, without redirects, and not from inside unless allowed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import jwks
from gateway.jwks import FetchedKeys, KeysUnavailable
from tests.backend import Backend, Script, Stall, head, json_answer, plain

EC = ec.generate_private_key(ec.SECP256R1())


def published(*kids: str) -> dict[str, Any]:
    key = jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True)
    return {"keys": [{**key, "kid": kid} for kid in kids]}


@pytest.fixture
async def issuer() -> AsyncIterator[Backend]:
    async with Backend(json_answer(published("one"))).running() as running:
        yield running


def keys(issuer: Backend, private: bool = True) -> FetchedKeys:
    return FetchedKeys(f"{issuer.url}/keys?a=b", private=private)


async def test_a_key_is_found_by_its_name_and_fetched_once(issuer: Backend) -> None:
    fetched = keys(issuer)
    for _ in range(3):
        found = await fetched.named("one")
        assert found is not None and found.key_id == "one"
    (seen,) = issuer.requests
    assert (seen.method, seen.path) == ("GET", "/v1/keys?a=b")
    assert seen.header("accept-encoding") == "identity" and seen.header("authorization") is None


async def test_a_name_that_is_not_there_is_looked_for_again_but_not_often(
    issuer: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = keys(issuer)
    for _ in range(5):
        assert await fetched.named("two") is None
    assert len(issuer.requests) == 1
    monkeypatch.setattr(jwks, "_COOLDOWN_S", 0.0)
    issuer.answer = json_answer(published("one", "two"))
    assert await fetched.named("two") is not None


BAD: dict[str, Script] = {
    "a redirect": [head(302, (("location", "/v1/keys"), ("content-length", "0")))],
    "a refusal": json_answer({}, 403),
    "no JSON": plain(b"<html>"),
    "a list": json_answer([]),
    "no keys": json_answer({"keys": []}),
    "depth": plain(b'{"keys":' + b"[" * 100_000),
    "more than its bound": plain(b" " * 300_000 + json.dumps(published("one")).encode()),
    "a compressed body": plain(b"\x1f\x8b\x08\x00", headers=(("content-encoding", "gzip"),)),
    "no HTTP": [b"SSH-2.0\r\n\r\n"],
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_what_is_no_set_of_keys_is_no_verdict_and_is_not_asked_for_by_everybody(
    issuer: Backend, answer: Script
) -> None:
    issuer.answer, fetched = answer, keys(issuer)
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await fetched.named("one")
    assert len(issuer.requests) == 1


async def test_an_issuer_that_says_nothing_is_waited_for_a_while(
    issuer: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 0.2)
    issuer.answer = [Stall()]
    with pytest.raises(KeysUnavailable):
        await keys(issuer).named("one")


async def test_an_issuer_inside_is_asked_only_where_the_operator_says_so(issuer: Backend) -> None:
    with pytest.raises(KeysUnavailable):
        await keys(issuer, private=False).named("one")
    assert issuer.connections == 0


async def test_no_proxy_of_the_environment_is_asked(issuer: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Backend().running() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert await keys(issuer).named("one") is not None
        assert proxy.connections == 0
