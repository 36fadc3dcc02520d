"""Who calls, over the wire: keys, forwarded users, tokens of others; and pretending, which has no effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests import house
from tests.backend import Backend
from tests.house import Answer, Farebox, until

SECRET = "shared-with-open-webui-0123456789abcdef"
ISSUER_SECRET = "shared-with-the-issuer-0123456789abcdef"
ACME = {
    "name": "acme",
    "issuer": "https://acme.example/",
    "audience": "farebox",
    "algorithm": "HS256",
    "secret_env": "ACME_SECRET",
}


@pytest.fixture
async def signed(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A gateway that shares a secret with Open WebUI."""
    secret = {"jwt_secret": SECRET}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, openwebui=secret) as farebox:
        yield farebox


@pytest.fixture
async def trusting(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Farebox]:
    """A gateway that accepts the tokens of an issuer."""
    monkeypatch.setenv("ACME_SECRET", ISSUER_SECRET)
    async with house.farebox(data_dir, database_url, redis_url, backend.url, issuers=[ACME]) as farebox:
        yield farebox


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, "" if answer.status == 200 else answer.error["code"]


def token(secret: str = ISSUER_SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    usual = {
        "iss": ACME["issuer"],
        "aud": "farebox",
        "exp": time.time() + 60,
        "sub": "ida",
        "email": "ida@acme.example",
    }
    given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(given, secret, algorithm)


def open_webui(secret: str = SECRET, **claims: Any) -> str:
    usual = {"iss": "open-webui", "sub": "u-1", "email": "grace@example.org", "name": "Grace", "exp": time.time() + 60}
    return jwt.encode({**usual, **claims}, secret, "HS256")


async def people(farebox: Farebox) -> list[tuple[str, str, str, str]]:
    rows = await farebox.rows("SELECT realm, subject, email, name FROM users ORDER BY realm, subject")
    return [(row["realm"], row["subject"], row["email"], row["name"]) for row in rows]


# Keys ---------------------------------------------------------------------------------------------------------------


async def test_a_key_is_taken_in_either_header_and_from_no_other_scheme(farebox: Farebox) -> None:
    ada = await farebox.caller()
    assert (await farebox.chat(bearer(ada.key))).status == 200
    assert (await farebox.chat({"authorization": f"bearer  {ada.key} "})).status == 200
    assert (await farebox.chat({"x-api-key": ada.key})).status == 200
    assert (await farebox.chat({**bearer(ada.key), "x-api-key": ada.key})).status == 200
    assert told(await farebox.chat({"authorization": f"Basic {ada.key}"})) == (401, "invalid_api_key")
    assert told(await farebox.chat({"authorization": ada.key})) == (401, "invalid_api_key")


async def test_two_different_keys_are_nobodys(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    answer = await farebox.chat({**bearer(ada.key), "x-api-key": bob.key})
    assert told(answer) == (401, "invalid_api_key") and "two different keys" in answer.error["message"]
    assert not await farebox.charges()


async def test_a_malformed_or_mistyped_key_is_refused(farebox: Farebox) -> None:
    ada = await farebox.caller()
    swapped = ada.key[:-1] + ("a" if ada.key[-1] != "a" else "b")
    for wrong in (swapped, ada.key[:-1], f"{ada.key}x", "sk-fb-", "sk-other", "ü", "x" * 20_000, ada.key.upper()):
        assert told(await farebox.chat({b"authorization".decode(): f"Bearer {wrong}"})) == (401, "invalid_api_key")


async def test_a_key_that_expires_stops_at_its_instant_on_a_running_gateway(farebox: Farebox) -> None:
    ada = await farebox.caller()
    soon = datetime.now(UTC) + timedelta(seconds=4)
    full, _ = await farebox.accounts.create_key(name="short", user_id=ada.user.id, expires_at=soon)
    assert (await farebox.chat(bearer(full))).status == 200

    async def refused() -> bool:
        return told(await farebox.chat(bearer(full))) == (401, "key_expired")

    await until(refused)
    assert datetime.now(UTC) >= soon
    assert (await farebox.chat(ada)).status == 200


async def test_a_revoked_key_a_suspended_user_and_a_new_tier_are_known_within_two_seconds(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    full, key = await farebox.accounts.create_key(name="second", user_id=ada.user.id)
    assert (await farebox.chat(bearer(full))).status == 200
    await farebox.accounts.revoke_key(key.id)
    await until(lambda: says(farebox, full, "key_revoked"))
    assert (await farebox.chat(ada)).status == 200
    assert told(await farebox.chat(ada, model="large")) == (403, "model_not_allowed")
    await farebox.accounts.set_tier(ada.user.id, "paid")
    await until(lambda: says(farebox, ada.key, "", model="large"))
    await farebox.accounts.set_status(ada.user.id, "suspended")
    await until(lambda: says(farebox, ada.key, "account_suspended"))
    await farebox.accounts.set_status(ada.user.id, "active")
    await until(lambda: says(farebox, ada.key, ""))


async def says(farebox: Farebox, key: str, code: str, **more: Any) -> bool:
    return told(await farebox.chat(bearer(key), **more))[1] == code


async def test_no_header_of_identity_or_credential_reaches_a_backend(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    spoofed = {
        **ada.headers,
        "x-openwebui-user-id": "somebody-else",
        "x-openwebui-user-email": "boss@example.org",
        "x-openwebui-user-name": "The Boss",
        "x-openwebui-user-role": "admin",
        "x-openwebui-user-jwt": "a.b.c",
        "x-openwebui-chat-id": "chat-1",
        "x-openwebui-task": "title_generation",
        "cookie": "session=1",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "org-1",
    }
    assert (await farebox.chat(spoofed)).status == 200
    charge = await farebox.charge()
    assert charge["user_id"] == ada.user.id
    assert (charge["chat_id"], charge["task"]) == ("", "")
    assert len(await people(farebox)) == 1
    (seen,) = backend.requests
    names = {name.lower() for name, _ in seen.headers}
    assert not {name for name in names if name.startswith("x-openwebui")}
    assert not names & {"cookie", "x-forwarded-for", "openai-organization", "x-api-key", "authorization"}
    for secret in (ada.key, "somebody-else", "boss@example.org", "session=1"):
        assert secret.encode() not in seen.head + seen.body


# Forwarded users ----------------------------------------------------------------------------------------------------


async def test_a_service_names_its_user_in_plain_headers_only_if_its_key_says_so(
    farebox: Farebox, backend: Backend
) -> None:
    named = {
        "x-openwebui-user-id": "u-1",
        "x-openwebui-user-email": "grace@example.org",
        "x-openwebui-user-name": "Grace%20H%C3%B6pper",
        "x-openwebui-user-role": "admin",
        "x-openwebui-chat-id": "chat-1",
        "x-openwebui-message-id": "message-1",
        "x-openwebui-task": "title_generation",
    }
    strict = await farebox.service(plain_headers=False, realm="strict")
    assert told(await farebox.chat({**bearer(strict), **named})) == (401, "identity_missing")
    service = await farebox.service()
    assert (await farebox.chat({**bearer(service), **named})).status == 200
    assert await people(farebox) == [("open-webui", "u-1", "grace@example.org", "Grace Höpper")]
    (user,) = await farebox.rows("SELECT id, tier, role FROM users")
    assert (user["tier"], user["role"]) == ("free", "user")
    charge = await farebox.charge()
    assert (charge["user_id"], charge["chat_id"], charge["message_id"], charge["task"]) == (
        user["id"],
        "chat-1",
        "message-1",
        "title_generation",
    )
    assert not {name for name, _ in backend.requests[0].headers if name.lower().startswith("x-openwebui")}


async def test_users_of_two_realms_are_two_people(farebox: Farebox) -> None:
    one, two = await farebox.service(realm="one"), await farebox.service(realm="two")
    for service in (one, two, one):
        assert (await farebox.chat({**bearer(service), "x-openwebui-user-id": "u-1"})).status == 200
    assert [(realm, subject) for realm, subject, _, _ in await people(farebox)] == [("one", "u-1"), ("two", "u-1")]


async def test_a_forwarded_user_who_is_suspended_is_refused(farebox: Farebox) -> None:
    service = await farebox.service()
    headers = {**bearer(service), "x-openwebui-user-id": "u-1"}
    assert (await farebox.chat(headers)).status == 200
    (user,) = await farebox.rows("SELECT id FROM users")
    await farebox.accounts.set_status(user["id"], "suspended")

    async def refused() -> bool:
        return told(await farebox.chat(headers)) == (403, "account_suspended")

    await until(refused)


async def test_signed_users_are_believed_and_unsigned_ones_are_not(signed: Farebox) -> None:
    service = bearer(await signed.service())
    assert (await signed.chat({**service, "x-openwebui-user-jwt": open_webui()})).status == 200
    assert await people(signed) == [("open-webui", "u-1", "grace@example.org", "Grace")]
    plain = await signed.chat({**service, "x-openwebui-user-id": "u-1"})
    assert told(plain) == (401, "identity_missing")
    wrong = {
        "another secret": open_webui("x" * 32),
        "another issuer": open_webui(iss="somebody"),
        "no subject": open_webui(sub=""),
        "expired": open_webui(exp=time.time() - 60),
        "no algorithm": jwt.encode({"iss": "open-webui", "sub": "u-1", "exp": time.time() + 60}, "", "none"),
        "nonsense": "a.b.c",
    }
    for name, forged in wrong.items():
        answer = await signed.chat({**service, "x-openwebui-user-jwt": forged})
        assert answer.status == 401, name
    assert len(await people(signed)) == 1


async def test_a_signed_header_behind_an_ordinary_key_means_nothing(signed: Farebox) -> None:
    ada = await signed.caller()
    assert (await signed.chat({**ada.headers, "x-openwebui-user-jwt": open_webui()})).status == 200
    assert (await signed.charge())["user_id"] == ada.user.id
    assert len(await people(signed)) == 1


async def test_the_same_header_twice_is_refused(farebox: Farebox) -> None:
    service = await farebox.service()
    headers = [("authorization", f"Bearer {service}"), ("x-openwebui-user-id", "u-1"), ("x-openwebui-user-id", "u-2")]
    url = f"{farebox.url}/v1/chat/completions"
    async with farebox.http.post(url, data=b"{}", headers=headers) as reply:
        assert reply.status == 401
    assert await people(farebox) == []


async def test_a_service_without_a_user_reads_the_models_and_nothing_else(farebox: Farebox) -> None:
    service = bearer(await farebox.service())
    assert told(await farebox.chat(service)) == (401, "identity_missing")
    assert told(await farebox.get("/v1/account", service)) == (401, "identity_missing")
    assert (await farebox.get("/v1/models", service)).status == 200


async def test_what_a_new_user_is_called_follows_what_is_forwarded(farebox: Farebox) -> None:
    service = bearer(await farebox.service())
    for name in ("Grace", "Grace H."):
        headers = {**service, "x-openwebui-user-id": "u-1", "x-openwebui-user-name": name}
        assert (await farebox.chat(headers)).status == 200
        assert [shown for *_, shown in await people(farebox)] == [name]


# Tokens of an issuer ------------------------------------------------------------------------------------------------


async def test_64_first_calls_with_a_token_make_one_user(trusting: Farebox) -> None:
    answers = await asyncio.gather(*(trusting.chat(bearer(token()), model="flat") for _ in range(64)))
    assert sum(answer.status == 200 for answer in answers) == 10
    assert await people(trusting) == [("acme", "ida", "ida@acme.example", "")]
    assert len(await trusting.rows("SELECT id FROM wallets")) == 1
    assert len(await trusting.rows("SELECT id FROM grants")) == 1
    assert not await trusting.broken()


async def test_a_token_that_does_not_follow_its_issuers_rules_is_refused(trusting: Farebox) -> None:
    wrong = {
        "another audience": token(aud="elsewhere"),
        "no audience": token(aud=None),
        "no expiry": token(exp=None),
        "another issuer": token(iss="https://evil.example/"),
        "another secret": token("x" * 40),
        "another algorithm": token("y" * 64, algorithm="HS512"),
        "nobody": token(sub=""),
    }
    for name, forged in wrong.items():
        assert told(await trusting.chat(bearer(forged))) == (401, "invalid_api_key"), name
    assert told(await trusting.chat(bearer(token(exp=time.time() - 60)))) == (401, "key_expired")
    assert await people(trusting) == []


async def test_a_gateway_without_issuers_takes_no_token(farebox: Farebox) -> None:
    assert told(await farebox.chat(bearer(token()))) == (401, "invalid_api_key")
