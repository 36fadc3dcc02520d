"""Who is calling: every way to be known, and every way to pretend."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from accounts.directory import Directory
from accounts.edits_sql import TierOrder
from accounts.keys import ACCOUNT, CHARGES, FORWARD_USERS, IMPERSONATION, INFERENCE, mint
from accounts.standing import Standing
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog import Catalog
from config.issuer import Issuer
from gateway.errors import Refusal
from gateway.identity import Identity, ServiceKey
from gateway.issuers import Issuers
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.tier import Tier, Window
from tests.gateway.parts import standing_of

SECRET = "s" * 32
CATALOG = Catalog(tiers={name: Tier(name) for name in ("free", "pro")})


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine) -> Accounts:
    return Accounts(engine, pepper=b"p" * 32, default_tier="free")


@pytest.fixture
async def directory(accounts: Accounts) -> AsyncIterator[Directory]:
    directory = Directory(accounts)
    yield directory
    await directory.aclose()


@pytest.fixture
def issuers(monkeypatch: pytest.MonkeyPatch) -> Issuers:
    monkeypatch.setenv("A_SECRET", SECRET)
    acme = Issuer(name="acme", issuer="https://acme/", audience="fb", algorithm="HS256", secret_env="A_SECRET")
    return Issuers([acme])


@pytest.fixture
def identity(directory: Directory, issuers: Issuers) -> Identity:
    return Identity(directory, issuers, standing_of(CATALOG))


@pytest.fixture
def signed_identity(directory: Directory, issuers: Issuers) -> Identity:
    return Identity(directory, issuers, standing_of(CATALOG), SecretStr(SECRET))


def headers(key: str, **more: str) -> list[tuple[bytes, bytes]]:
    given = {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in more.items()}}
    return [(name.encode(), value.encode()) for name, value in given.items()]


def token(**changes: Any) -> str:
    return jwt.encode({"iss": "https://acme/", "aud": "fb", "sub": "u1", "exp": time.time() + 60} | changes, SECRET)


def user_token(**changes: Any) -> str:
    return jwt.encode({"iss": "open-webui", "sub": "u1", "exp": time.time() + 60, "name": "Ann"} | changes, SECRET)


async def own_key(accounts: Accounts, **fields: Any) -> str:
    user = await accounts.create_user(name="Ann", email="a@b", tier="pro")
    return (await accounts.create_key(name="laptop", user_id=user.id, **fields))[0]


async def service_key(accounts: Accounts, *, plain: bool = False) -> str:
    full, _ = await accounts.create_key(name="owui", scopes=[FORWARD_USERS], realm="openwebui", plain_headers=plain)
    return full


async def refused(identity: Identity, given: list[tuple[bytes, bytes]]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await identity.identify(given)
    return caught.value


async def known(identity: Identity, given: list[tuple[bytes, bytes]]) -> Principal:
    principal = await identity.identify(given)
    assert isinstance(principal, Principal)
    return principal


async def test_a_key_names_its_user(accounts: Accounts, identity: Identity) -> None:
    principal = await known(identity, headers(await own_key(accounts)))
    assert (principal.name, principal.tier, principal.forwarded) == ("Ann", "pro", False)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  ", "BEARER "])
async def test_the_scheme_is_read_in_any_case(accounts: Accounts, identity: Identity, scheme: str) -> None:
    key = await own_key(accounts)
    assert (await known(identity, [(b"authorization", (scheme + key).encode())])).name == "Ann"


async def test_a_key_may_come_as_x_api_key_or_twice_the_same(accounts: Accounts, identity: Identity) -> None:
    key = await own_key(accounts)
    assert (await known(identity, [(b"x-api-key", key.encode())])).name == "Ann"
    assert (await known(identity, headers(key, x_api_key=key))).name == "Ann"


@pytest.mark.parametrize(
    "given",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Basic dTpw")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer sk-unknown")],
        [(b"authorization", b"Bearer \xff\x00")],
        [(b"authorization", b"Bearer a.b.c")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [(b"authorization", b"Bearer a"), (b"x-api-key", b"b")],
    ],
)
async def test_no_bad_or_two_credentials_are_refused(identity: Identity, given: list[tuple[bytes, bytes]]) -> None:
    refusal = await refused(identity, given)
    assert (refusal.code, refusal.status) == ("invalid_api_key", 401)


async def test_a_made_up_key_is_not_known(identity: Identity) -> None:
    assert (await refused(identity, headers(mint().full))).code == "invalid_api_key"


async def test_a_revoked_key_is_told_so(accounts: Accounts, identity: Identity) -> None:
    key = await own_key(accounts)
    await accounts.revoke_key((await accounts.list_keys())[0].id)
    assert (await refused(identity, headers(key))).code == "key_revoked"


async def test_a_key_expires_while_it_is_remembered(
    accounts: Accounts, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await own_key(accounts, expires_at=datetime.now(UTC) + timedelta(hours=1))
    await known(identity, headers(key))
    later = time.time() + 3601
    monkeypatch.setattr("gateway.identity.time", SimpleNamespace(time=lambda: later))
    assert (await refused(identity, headers(key))).code == "key_expired"


@pytest.mark.parametrize("status", ["suspended", "deleted"])
async def test_an_account_that_is_not_active_is_refused(accounts: Accounts, identity: Identity, status: Any) -> None:
    key = await own_key(accounts)
    await accounts.set_status((await accounts.list_keys())[0].user_id, status)  # type: ignore[arg-type]
    refusal = await refused(identity, headers(key))
    assert (refusal.code, refusal.status) == ("account_suspended", 403)


async def test_a_token_makes_its_user_on_first_sight(identity: Identity) -> None:
    first = await known(identity, headers(token(email="a@b", name="Ann", role="admin", tier="pro")))
    assert (first.realm, first.subject, first.email, first.tier, first.role) == ("acme", "u1", "a@b", "free", "user")
    assert first.key_id is None
    assert (await known(identity, headers(token(sub="u1", name="Anna")))).user_id == first.user_id


async def test_a_token_older_than_its_users_sessions_is_refused(
    accounts: Accounts, identity: Identity, engine: AsyncEngine
) -> None:
    now = time.time()
    user = await known(identity, headers(token(iat=now - 100)))
    await accounts.revoke_sessions(user.user_id)
    fresh = Identity(Directory(accounts), identity._issuers, standing_of(CATALOG))
    for claims in ({"iat": now - 100}, {}):
        refusal = await refused(fresh, headers(token(**claims)))
        assert (refusal.code, refusal.message) == (
            "key_revoked",
            "This sign-in has been ended. Please sign in again.",
        )
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE users SET sessions_from = now() - interval '1 hour'"))
    later = Identity(Directory(accounts), identity._issuers, standing_of(CATALOG))
    assert (await known(later, headers(token(iat=now - 100)))).user_id == user.user_id


@pytest.mark.parametrize(
    ("scopes", "may_call", "may_read", "may_list"),
    [
        ([], True, True, True),
        ([INFERENCE], True, False, True),
        ([ACCOUNT], False, True, True),
        ([CHARGES], False, False, False),
        ([INFERENCE, CHARGES], True, False, True),
        ([IMPERSONATION], True, True, True),
    ],
)
async def test_a_key_may_do_what_its_scopes_say(
    accounts: Accounts, identity: Identity, scopes: list[str], may_call: bool, may_read: bool, may_list: bool
) -> None:
    given = headers(await own_key(accounts, scopes=scopes))
    for asked, allowed in (
        (identity.identify(given), may_call),
        (identity.identify(given, ACCOUNT), may_read),
        (identity.identify_lister(given), may_list),
    ):
        if allowed:
            assert isinstance(await asked, Principal)
            continue
        with pytest.raises(Refusal) as caught:
            await asked
        assert caught.value.code == "feature_not_allowed" and "Use another key." in caught.value.message


async def test_a_principal_has_the_limits_and_the_standing_of_its_caller(
    accounts: Accounts, identity: Identity
) -> None:
    limits = KeyLimits(models=("small",), windows=(Window(3, "requests", 60),))
    given = headers(await own_key(accounts, limits=limits, acted_by="admin:root"))
    principal = await known(identity, given)
    assert principal.limits is not None and principal.limits.models == ("small",)
    assert principal.limits.windows[0].scope == f"key:{principal.key_id}"
    assert (principal.acted_by, principal.tier, principal.group) == ("admin:root", "pro", None)
    assert principal.since is not None
    assert (await known(identity, headers(token()))).limits is None


async def test_a_member_of_a_shared_wallet_spends_that_one(accounts: Accounts, directory: Directory) -> None:
    key = await own_key(accounts)
    (stored,) = await accounts.list_keys()
    assert stored.user_id is not None
    kept = await accounts.create_group(name="Team", shared=True, tier="free")
    await accounts.add_member(kept.group.id, stored.user_id)
    catalog = Catalog(tiers=CATALOG.tiers, groups={kept.group.id: kept.group})
    principal = await known(Identity(directory, Issuers([]), standing_of(catalog)), headers(key))
    assert (principal.wallet_id, principal.group) == (kept.group.wallet_id, kept.group)
    assert principal.tier == "pro"  # pinned, so the group's does not count


async def test_without_any_tier_a_caller_is_known_and_still_refused(accounts: Accounts, directory: Directory) -> None:
    identity = Identity(directory, Issuers([]), standing_of(Catalog()))
    refusal = await refused(identity, headers(await own_key(accounts)))
    assert (refusal.code, refusal.status) == ("price_missing", 503)


async def test_a_token_that_expired_is_told_so(identity: Identity) -> None:
    assert (await refused(identity, headers(token(exp=1)))).code == "key_expired"


FORWARDED = {
    "x_openwebui_user_id": "u1",
    "x_openwebui_user_email": "a@b",
    "x_openwebui_user_name": "Bob M%C3%BCller %E4%BD%A0",
    "x_openwebui_user_role": "admin",
    "x_openwebui_chat_id": "chat-1",
    "x_openwebui_message_id": "message-1",
    "x_openwebui_task": "title_generation",
}


async def test_forwarding_headers_mean_nothing_from_anybody_else(accounts: Accounts, identity: Identity) -> None:
    key = await own_key(accounts)
    plain = await known(identity, headers(key))
    assert await known(identity, headers(key, **FORWARDED, x_openwebui_user_jwt=user_token())) == plain
    by_token = await known(identity, headers(token(), **FORWARDED))
    assert (by_token.realm, by_token.chat_id, by_token.forwarded) == ("acme", "", False)


async def test_a_plain_user_is_known_behind_a_key_that_allows_it(accounts: Accounts, identity: Identity) -> None:
    principal = await known(identity, headers(await service_key(accounts, plain=True), **FORWARDED))
    assert (principal.realm, principal.subject, principal.name) == ("openwebui", "u1", "Bob Müller 你")
    assert (principal.email, principal.role, principal.tier, principal.forwarded) == ("a@b", "user", "free", True)
    assert (principal.chat_id, principal.message_id, principal.task) == ("chat-1", "message-1", "title_generation")


async def test_a_role_header_takes_nothing_from_an_admin_and_gives_nobody_anything(
    accounts: Accounts, identity: Identity, engine: AsyncEngine
) -> None:
    key = await service_key(accounts, plain=True)
    await known(identity, headers(key, **FORWARDED))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE users SET role = 'admin'"))
    await accounts.set_tier((await known(identity, headers(key, **FORWARDED))).user_id, "pro")
    fresh = Identity(Directory(accounts), Issuers([]), standing_of(CATALOG))
    principal = await known(fresh, headers(key, **(FORWARDED | {"x_openwebui_user_role": "user"})))
    assert (principal.role, principal.tier) == ("admin", "pro")


async def test_a_plain_user_is_refused_behind_a_key_that_does_not_allow_it(
    accounts: Accounts, identity: Identity
) -> None:
    refusal = await refused(identity, headers(await service_key(accounts), **FORWARDED))
    assert refusal.code == "identity_missing" and "plain headers" in refusal.message


async def test_a_signed_user_is_known(accounts: Accounts, signed_identity: Identity) -> None:
    key = await service_key(accounts)
    principal = await known(
        signed_identity, headers(key, x_openwebui_user_jwt=user_token(), x_openwebui_chat_id="chat-1")
    )
    assert (principal.realm, principal.subject, principal.name) == ("openwebui", "u1", "Ann")
    assert (principal.chat_id, principal.forwarded) == ("chat-1", True)


async def test_plain_headers_are_refused_once_the_secret_is_set(accounts: Accounts, signed_identity: Identity) -> None:
    refusal = await refused(signed_identity, headers(await service_key(accounts, plain=True), **FORWARDED))
    assert refusal.code == "identity_missing"
    assert "FORWARD_USER_INFO_HEADER_JWT_SECRET" in refusal.message


async def test_the_signature_wins_over_plain_headers_beside_it(accounts: Accounts, signed_identity: Identity) -> None:
    given = headers(
        await service_key(accounts, plain=True), x_openwebui_user_jwt=user_token(sub="real"), x_openwebui_user_id="fake"
    )
    assert (await known(signed_identity, given)).subject == "real"


async def test_a_signature_that_cannot_be_checked_is_refused_by_name(accounts: Accounts, identity: Identity) -> None:
    given = headers(await service_key(accounts, plain=True), x_openwebui_user_jwt=user_token(), x_openwebui_user_id="u")
    refusal = await refused(identity, given)
    assert refusal.code == "identity_missing" and "FAREBOX_OPENWEBUI__JWT_SECRET" in refusal.message


async def test_a_forged_signature_is_refused(accounts: Accounts, signed_identity: Identity) -> None:
    forged = jwt.encode({"iss": "open-webui", "sub": "u1", "exp": time.time() + 60}, "t" * 32)
    given = headers(await service_key(accounts), x_openwebui_user_jwt=forged)
    assert (await refused(signed_identity, given)).code == "invalid_api_key"


async def test_an_identity_header_that_comes_twice_is_refused(accounts: Accounts, identity: Identity) -> None:
    given = [*headers(await service_key(accounts, plain=True), **FORWARDED), (b"x-openwebui-user-id", b"u2")]
    refusal = await refused(identity, given)
    assert refusal.code == "identity_missing" and "twice" in refusal.message


@pytest.mark.parametrize("subject", ["", " ", "x" * 256, "a\tb"])
async def test_a_plain_user_without_a_usable_id_is_refused(
    accounts: Accounts, identity: Identity, subject: str
) -> None:
    given = headers(await service_key(accounts, plain=True), **(FORWARDED | {"x_openwebui_user_id": subject}))
    assert (await refused(identity, given)).code == "identity_missing"


async def test_a_label_too_long_unprintable_or_repeated_counts_as_not_given(
    accounts: Accounts, identity: Identity
) -> None:
    labels = {"x_openwebui_chat_id": "x" * 201, "x_openwebui_message_id": "a\x07b"}
    given = [*headers(await service_key(accounts, plain=True), **(FORWARDED | labels)), (b"x-openwebui-task", b"again")]
    principal = await known(identity, given)
    assert (principal.chat_id, principal.message_id, principal.task) == ("", "", "")


async def test_a_service_that_names_nobody_is_itself(accounts: Accounts, identity: Identity) -> None:
    service = await identity.identify(headers(await service_key(accounts)))
    assert isinstance(service, ServiceKey) and (service.name, service.scopes) == ("owui", (FORWARD_USERS,))
    assert service.no_user().code == "identity_missing"


async def test_a_service_lists_models_whatever_user_it_names(accounts: Accounts, signed_identity: Identity) -> None:
    given = headers(await service_key(accounts), **FORWARDED, x_openwebui_user_jwt="broken")
    assert isinstance(await signed_identity.identify_lister(given), ServiceKey)
    assert isinstance(await signed_identity.identify_lister(headers(await own_key(accounts))), Principal)


class Remembering:
    """An identity that knows again whom it let in, and how often it had to ask."""

    def __init__(self, directory: Directory, issuers: Issuers) -> None:
        self.catalog = CATALOG
        self.asked = 0
        self.identity = Identity(directory, issuers, self.standing, None, lambda: self.catalog)

    async def standing(self, user: User) -> Standing:
        self.asked += 1
        return await standing_of(self.catalog)(user)


@pytest.fixture
def remembering(directory: Directory, issuers: Issuers) -> Remembering:
    return Remembering(directory, issuers)


async def test_who_was_let_in_is_known_again_without_asking(accounts: Accounts, remembering: Remembering) -> None:
    given = headers(await own_key(accounts))
    assert await known(remembering.identity, given) is await known(remembering.identity, given)
    assert remembering.asked == 1
    assert await remembering.identity.identify(given, ACCOUNT) == await known(remembering.identity, given)
    assert remembering.asked == 2  # what a key may beside calls is looked up each time


async def test_the_use_of_a_key_is_noted_also_where_nobody_is_asked(
    accounts: Accounts, directory: Directory, remembering: Remembering
) -> None:
    given = headers(await own_key(accounts))
    await known(remembering.identity, given)
    await directory.flush()
    before = (await accounts.list_keys())[0].last_used_at
    await known(remembering.identity, given)
    await directory.flush()
    after = (await accounts.list_keys())[0].last_used_at
    assert before is not None and after is not None and after > before


async def test_nobody_is_known_again_after_any_change(
    accounts: Accounts, directory: Directory, remembering: Remembering
) -> None:
    given = headers(await own_key(accounts))
    first = await known(remembering.identity, given)
    remembering.catalog = Catalog(tiers={"pro": Tier("pro", models=("small",))})
    assert await known(remembering.identity, given) == first and remembering.asked == 2
    key = (await accounts.list_keys())[0]
    await accounts.set_status(first.user_id, "suspended")
    directory.changed("users", str(first.user_id))
    assert (await refused(remembering.identity, given)).code == "account_suspended"
    await accounts.set_status(first.user_id, "active")
    directory.changed("users", str(first.user_id))
    await known(remembering.identity, given)
    await accounts.revoke_key(key.id)
    directory.changed("api_keys", str(key.id))
    assert (await refused(remembering.identity, given)).code == "key_revoked"


async def test_nobody_is_known_again_while_no_change_would_be_told(
    accounts: Accounts, directory: Directory, remembering: Remembering
) -> None:
    given = headers(await own_key(accounts))
    await known(remembering.identity, given)
    directory.everything_changed(listening=False)
    for _ in range(2):
        await known(remembering.identity, given)
    assert remembering.asked == 3


async def test_a_key_that_is_known_again_still_ends(
    accounts: Accounts, remembering: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = headers(await own_key(accounts, expires_at=datetime.now(UTC) + timedelta(hours=1)))
    await known(remembering.identity, given)
    later = time.time() + 3601
    monkeypatch.setattr("gateway.identity.time", SimpleNamespace(time=lambda: later))
    assert (await refused(remembering.identity, given)).code == "key_expired"


async def test_a_planned_tier_begins_for_one_who_is_known(
    accounts: Accounts, remembering: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = headers(await own_key(accounts))
    user_id = (await known(remembering.identity, given)).user_id
    await accounts.edit_user(user_id, {}, tier=TierOrder("free", datetime.now(UTC) + timedelta(hours=1)))
    remembering.identity._directory.changed("users", str(user_id))
    await known(remembering.identity, given)
    asked, later = remembering.asked, time.time() + 3601
    monkeypatch.setattr("gateway.identity.time", SimpleNamespace(time=lambda: later))
    await known(remembering.identity, given)
    assert remembering.asked == asked + 1


async def test_a_key_that_speaks_for_others_is_nobody_by_itself(
    accounts: Accounts, directory: Directory, issuers: Issuers
) -> None:
    key = await service_key(accounts, plain=True)
    forgetful, remembering = Identity(directory, issuers, standing_of(CATALOG)), Remembering(directory, issuers)
    for subject in ("one", "two"):
        given = headers(key, x_openwebui_user_id=subject)
        assert await known(remembering.identity, given) == await known(forgetful, given)
        assert (await known(remembering.identity, given)).subject == subject


async def test_a_database_that_is_away_is_no_verdict(issuers: Issuers) -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    directory = Directory(Accounts(engine, pepper=b"p" * 32, default_tier="free"))
    identity = Identity(directory, issuers, standing_of(CATALOG))
    refusal = await refused(identity, headers(mint().full))
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "ledger_unavailable", 2)
    await engine.dispose()
