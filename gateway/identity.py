"""Who is calling, and where do they stand? Headers in, Principal out: it never reads the body or looks at money.

A caller proves itself by a Farebox key or by a token of a configured issuer. Only behind a key with the scope
``forward_users`` do the X-OpenWebUI headers mean anything; from anyone else they are not even looked at.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import UUID

from pydantic import SecretStr

from accounts.cache import FOREVER, Cache
from accounts.directory import Directory
from accounts.keys import ACCOUNT, INFERENCE, Key, looks_like_key
from accounts.lookups import TooManyLookups
from accounts.standing import NoTier, Standing
from accounts.store_sql import AccountsUnavailable
from accounts.users import SUBJECT_MAX, TEXT_MAX, Sighting, User
from config.catalog import Catalog
from gateway import sentences
from gateway.errors import Refusal
from gateway.issuers import Issuers, KeysUnavailable, TokenError, refusal_of, verify_openwebui
from gateway.language import sentence
from policies.principal import Principal

Headers = Iterable[tuple[bytes, bytes]]
StandingOf = Callable[[User], Awaitable[Standing]]
"""Where a user stands at this moment: tier, wallet, group. Raises NoTier."""

_USER_JWT = b"x-openwebui-user-jwt"
_USER_ID = b"x-openwebui-user-id"
_USER_EMAIL = b"x-openwebui-user-email"
_USER_NAME = b"x-openwebui-user-name"
_USER_ROLE = b"x-openwebui-user-role"
_CHAT_ID = b"x-openwebui-chat-id"
_MESSAGE_ID = b"x-openwebui-message-id"
_TASK = b"x-openwebui-task"
_NAMED = (_USER_JWT, _USER_ID, _USER_EMAIL, _USER_NAME, _USER_ROLE)
_LABELS = (_CHAT_ID, _MESSAGE_ID, _TASK)
_LABEL_MAX = 200
_RETRY_S = 2
_MET_MAX = 10_000
_METERED = (INFERENCE,)
_MADE_FOR_OTHER_THINGS = {
    INFERENCE: "This key does not allow calls to models. Use another key.",
    ACCOUNT: "This key does not allow to read an account. Use another key.",
}

_SIGNED_ONLY = (
    "This gateway accepts only signed users: set FORWARD_USER_INFO_HEADER_JWT_SECRET in Open WebUI to the value of "
    "FAREBOX_OPENWEBUI__JWT_SECRET here."
)
_NOT_CONFIGURED = "This gateway cannot check signed users: set FAREBOX_OPENWEBUI__JWT_SECRET to Open WebUI's secret."
_NOT_PLAIN = (
    "This key does not accept unsigned user headers: set FAREBOX_OPENWEBUI__JWT_SECRET here and "
    "FORWARD_USER_INFO_HEADER_JWT_SECRET in Open WebUI, or make a key that allows plain headers."
)
_NO_USER = (
    "This key speaks for its users, and this call names none: set ENABLE_FORWARD_USER_INFO_HEADERS=true in Open WebUI."
)


class ServiceKey(NamedTuple):
    """A service that forwards users and named none in this call: it may read the list of models, nothing more."""

    key_id: UUID
    name: str
    scopes: tuple[str, ...]

    def no_user(self) -> Refusal:
        """What it is told where a user is needed."""
        return Refusal.of("identity_missing", _NO_USER)


class _Met(NamedTuple):
    """A caller who was let in by a key, and what must not have changed since."""

    principal: Principal
    key_id: UUID
    epoch: int
    catalog: Catalog


class Identity:
    """Answers for one process, from memory where it can. ``catalog`` is the one by which ``standing_of`` tells where a
    user stands; without it every call asks anew. No key stands in memory, but what its SHA-256 stands for."""

    def __init__(
        self,
        directory: Directory,
        issuers: Issuers,
        standing_of: StandingOf,
        openwebui_secret: SecretStr | None = None,
        catalog: Callable[[], Catalog] | None = None,
        met_max: int = _MET_MAX,
    ) -> None:
        self._directory = directory
        self._issuers = issuers
        self._standing_of = standing_of
        self._openwebui_secret = openwebui_secret
        self._catalog = catalog
        self._met: Cache[bytes, _Met] = Cache(met_max)

    async def identify(self, headers: Headers, *scopes: str) -> Principal | ServiceKey:
        """Who calls. ``headers`` as ASGI has them, names in lower case; of ``scopes`` (none given: calls to models) the
        key must have one.

        Raises Refusal: invalid_api_key, key_expired, key_revoked, identity_missing, account_suspended,
        feature_not_allowed for a key made for other things, price_missing where there is no tier, or
        ledger_unavailable where it is not known from memory and the database does not answer.
        """
        given = list(headers)
        credential = _credential(given)
        if not scopes and (principal := self._known(credential)) is not None:
            return principal
        try:
            return await self._identify(credential, given, scopes or _METERED)
        except (AccountsUnavailable, TooManyLookups) as error:
            raise _cannot_tell() from error
        except (TokenError, KeysUnavailable) as error:
            raise refusal_of(error) from error

    async def identify_lister(self, headers: Headers) -> Principal | ServiceKey:
        """Who asks for the list of models: a forwarding service is answered as itself, whatever user it names.

        Open WebUI keeps one list for all its users, and without a list no chat of anybody works.
        """
        credentials = [(name, value) for name, value in headers if name not in _NAMED]
        return await self.identify(credentials, INFERENCE, ACCOUNT)

    async def _identify(self, credential: str, headers: Headers, scopes: tuple[str, ...]) -> Principal | ServiceKey:
        if not looks_like_key(credential) and credential.count(".") == 2:
            return await self._by_token(credential)
        epoch, catalog = self._directory.epoch, self._catalog() if self._catalog else None
        key = _usable(await self._directory.key(credential))
        if key.forwards_users:
            return await self._forwarded(key, headers)
        if key.scopes and not set(scopes).intersection(key.effective_scopes):
            raise Refusal.of("feature_not_allowed", _MADE_FOR_OTHER_THINGS[scopes[0]], limit=f"scope:{scopes[0]}")
        user = None if key.user_id is None else await self._directory.user(key.user_id)
        if user is None:
            raise Refusal.of("invalid_api_key", "The account of this key does not exist any more.")
        principal = await self._standing(active(user), key)
        if scopes == _METERED and epoch is not None and catalog is not None:
            self._met.put(_digest(credential), _Met(principal, key.id, epoch, catalog), _until(key, user))
        return principal

    def _known(self, credential: str) -> Principal | None:
        """Who calls by this key, where nothing has changed since it was let in."""
        now = time.time()
        met = self._met.get(_digest(credential), now)
        if met is None or met.epoch != self._directory.epoch or self._catalog is None:
            return None
        if met.catalog is not self._catalog():
            return None
        self._directory.used(met.key_id, now)
        return met.principal

    async def _by_token(self, token: str) -> Principal:
        vouched = await self._issuers.verify(token)
        user = active(await self._directory.sighted(vouched.sighting))
        if user.sessions_from is not None and (vouched.issued_at or 0.0) < user.sessions_from.timestamp():
            raise Refusal.of("key_revoked", "This sign-in has been ended. Please sign in again.")
        return await self._standing(user)

    async def _standing(self, user: User, key: Key | None = None, **forwarding: bool | str) -> Principal:
        try:
            return principal_of(user, await self._standing_of(user), key, **forwarding)
        except NoTier:
            raise sentences.no_tier() from None

    async def _forwarded(self, key: Key, headers: Headers) -> Principal | ServiceKey:
        named, labels = _forwarding(headers)
        sighting = self._named(key, named)
        if sighting is None:
            return ServiceKey(key.id, key.name, key.scopes)
        user = active(await self._directory.sighted(sighting))
        return await self._standing(
            user,
            key,
            forwarded=True,
            chat_id=labels.get(_CHAT_ID, ""),
            message_id=labels.get(_MESSAGE_ID, ""),
            task=labels.get(_TASK, ""),
        )

    def _named(self, key: Key, named: Mapping[bytes, str]) -> Sighting | None:
        """The user a forwarding service names; None where it names none."""
        if not named:
            return None
        if self._openwebui_secret is not None:
            return self._signed(key, named, self._openwebui_secret)
        if _USER_JWT in named:
            raise Refusal.of("identity_missing", _NOT_CONFIGURED)
        if not key.plain_headers:
            raise Refusal.of("identity_missing", _NOT_PLAIN)
        return _plain(key, named)

    def _signed(self, key: Key, named: Mapping[bytes, str], secret: SecretStr) -> Sighting:
        # With the secret set, unsigned headers are refused: Open WebUI falls back to them silently when signing fails.
        if _USER_JWT not in named:
            raise Refusal.of("identity_missing", _SIGNED_ONLY)
        return verify_openwebui(named[_USER_JWT], secret, key.realm)


def _credential(headers: Headers) -> str:
    """The one credential of the call. Raises Refusal where there is none, or where two contradict each other."""
    found = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.add(token.strip())
        elif name == b"x-api-key":
            found.add(value.strip())
    found.discard(b"")
    if len(found) != 1:
        problem = "This call carries two different keys." if found else "This call carries no key."
        raise Refusal.of("invalid_api_key", f"{problem} Send one as Authorization: Bearer or as x-api-key.")
    return found.pop().decode("latin-1")


def _digest(credential: str) -> bytes:
    return sha256(credential.encode()).digest()


def _until(key: Key, user: User) -> float:
    """When a caller has to be looked at again though nobody changed anything: the key ends, or another tier begins.
    Unix time."""
    instants = key.expires_at, user.next_tier_at
    return min([instant.timestamp() for instant in instants if instant is not None], default=FOREVER)


def _usable(key: Key | None) -> Key:
    if key is None:
        raise Refusal.of("invalid_api_key", "This key is not known here.")
    if key.revoked_at is not None:
        raise Refusal.of("key_revoked", "This key has been revoked. Ask for a new one.")
    if key.expires_at is not None and key.expires_at.timestamp() <= time.time():
        raise Refusal.of("key_expired", "This key has expired. Ask for a new one.")
    return key


def active(user: User) -> User:
    """The user itself, who may call. Raises Refusal."""
    if user.status == "active":
        return user
    said = sentence("account_closed" if user.status == "deleted" else "account_suspended")
    raise Refusal.of("account_suspended", said, language=user.language)


def principal_of(user: User, standing: Standing, key: Key | None = None, **forwarding: Any) -> Principal:
    """The user as every rule sees it, by this key or by none."""
    return Principal(
        user_id=user.id,
        wallet_id=standing.wallet_id,
        realm=user.realm,
        subject=user.subject,
        email=user.email,
        name=user.name,
        role=user.role,
        tier=standing.tier.name,
        status=user.status,
        language=user.language,
        key_id=key.id if key else None,
        since=standing.since,
        group=standing.group,
        limits=key.limits if key else None,
        acted_by=key.acted_by if key else "",
        scopes=key.scopes if key else (),
        **forwarding,
    )


def _forwarding(headers: Headers) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """What a forwarding service says: who its user is, and the labels of the call.

    Raises Refusal for an identity header that comes twice: whoever put the second one there wants to be somebody else.
    A label that is repeated, too long or not printable counts as not given.
    """
    named: dict[bytes, str] = {}
    labels: dict[bytes, str] = {}
    for name, value in headers:
        if name in _NAMED:
            if name in named:
                raise Refusal.of("identity_missing", f"The header {name.decode()} comes twice.")
            named[name] = value.decode("utf-8", "replace").strip()
        elif name in _LABELS:
            labels[name] = "" if name in labels else _label(value)
    return named, labels


def _label(value: bytes) -> str:
    text = value.decode("utf-8", "replace").strip()
    return text if len(text) <= _LABEL_MAX and text.isprintable() else ""


def _plain(key: Key, named: Mapping[bytes, str]) -> Sighting:
    """The user of unsigned headers. The role is not read: what someone may do here is decided here."""
    subject = named.get(_USER_ID, "")
    if not (0 < len(subject) <= SUBJECT_MAX and subject.isprintable()):
        raise Refusal.of("identity_missing", "The header x-openwebui-user-id names no user.")
    return Sighting(key.realm, subject, _shown(named.get(_USER_EMAIL, "")), _shown(unquote(named.get(_USER_NAME, ""))))


def _shown(text: str) -> str:
    return text.strip()[:TEXT_MAX] if text.isprintable() else ""


def _cannot_tell() -> Refusal:
    return sentences.waiting("ledger_unavailable", "keys_unknown", _RETRY_S)
