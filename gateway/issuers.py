"""Tokens of others, verified: the JWTs of configured issuers, and the one Open WebUI signs for each of its calls.

An issuer has one algorithm, one source of keys and one audience. The unverified ``iss`` only chooses which issuer's
rules apply; of the header nothing is believed but ``kid``, and that only among the keys the issuer publishes. A verdict
is remembered by the token's digest, no longer than the token lives.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import jwt
from pydantic import SecretStr

from accounts.cache import Cache
from accounts.users import SUBJECT_MAX, TEXT_MAX, Sighting
from config.issuer import Issuer
from gateway.errors import Refusal
from gateway.jwks import PAUSE_S, FetchedKeys
from gateway.jwks import KeysUnavailable as KeysUnavailable

OPENWEBUI_ISSUER = "open-webui"

_LEEWAY_S = 10
_TOKEN_CHARS_MAX = 16_384
# A verdict is looked at again after this long, so that a key its issuer withdraws stops working.
_BELIEVED_S = 300.0
_REFUSED_S = 10.0
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class TokenError(Exception):
    """This token proves nothing; the message says why, in words that may be told."""


class TokenExpired(TokenError):
    """It was good once."""


class Vouched(NamedTuple):
    """Whom a token speaks for, and when it was issued (seconds since 1970; None: it does not say)."""

    sighting: Sighting
    issued_at: float | None


class _Verdict(NamedTuple):
    vouched: Vouched | None
    error: TokenError | None


class Issuers:
    """Every configured issuer."""

    def __init__(self, issuers: Sequence[Issuer], *, remembered_max: int = 50_000) -> None:
        """Raises ValueError where an issuer's key file cannot be read."""
        self._known = {issuer.issuer: (issuer, _keys_of(issuer)) for issuer in issuers}
        self._verdicts: Cache[bytes, _Verdict] = Cache(remembered_max)
        # Apart, so that a flood of bad tokens pushes no good one out.
        self._refused: Cache[bytes, _Verdict] = Cache(min(remembered_max, 10_000))

    async def verify(self, token: str) -> Vouched:
        """What the token proves. Raises TokenError, or KeysUnavailable."""
        digest, now = sha256(token.encode()).digest(), time.monotonic()
        verdict = self._verdicts.get(digest, now) or self._refused.get(digest, now)
        if verdict is None:
            verdict = await self._judge(token, digest)
        if verdict.vouched is None:
            raise verdict.error or TokenError("This token is not valid.")
        return verdict.vouched

    async def _judge(self, token: str, digest: bytes) -> _Verdict:
        try:
            vouched, lives_s = await self._verified(token)
        except TokenError as error:
            verdict = _Verdict(None, error)
            self._refused.put(digest, verdict, time.monotonic() + _REFUSED_S)
            return verdict
        verdict = _Verdict(vouched, None)
        self._verdicts.put(digest, verdict, time.monotonic() + min(lives_s, _BELIEVED_S))
        return verdict

    async def _verified(self, token: str) -> tuple[Vouched, float]:
        issuer, keys = self._chosen(token)
        key = await keys.key_for(token)
        claims = _decoded(token, key, issuer.algorithm, issuer=issuer.issuer, audience=issuer.audience)
        vouched = Vouched(_sighting(claims, issuer), _issued_at(claims))
        return vouched, int(claims["exp"]) + _LEEWAY_S - time.time()

    def _chosen(self, token: str) -> tuple[Issuer, _Keys]:
        if len(token) > _TOKEN_CHARS_MAX:
            raise TokenError("This token is too long.")
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("This is neither a Farebox key nor a token.") from None
        name = claims.get("iss")
        known = self._known.get(name) if isinstance(name, str) else None
        if known is None:
            raise TokenError("The issuer of this token is not known here.")
        return known


def verify_openwebui(token: str, secret: SecretStr, realm: str) -> Sighting:
    """Whom Open WebUI's signed header speaks for. Raises TokenError.

    Signed anew for each call, so that remembering the verdict would only fill memory.
    """
    if len(token) > _TOKEN_CHARS_MAX:
        raise TokenError("This token is too long.")
    claims = _decoded(token, secret.get_secret_value(), "HS256", issuer=OPENWEBUI_ISSUER, audience=None)
    return Sighting(realm, _subject(claims.get("sub")), _text(claims.get("email")), _text(claims.get("name")))


class _Keys:
    """One key, whatever the token says."""

    def __init__(self, key: Any) -> None:
        self._key = key

    async def key_for(self, token: str) -> Any:
        return self._key


class _PublishedKeys(_Keys):
    """A set of keys in a file; the token names one by ``kid``, which it may leave out only where there is one alone."""

    def __init__(self, keys: Sequence[jwt.PyJWK], algorithm: str) -> None:
        kind = _KEY_TYPES[algorithm[:2]]
        self._keys = [key for key in keys if key.key_type == kind and key.public_key_use in ("sig", None)]

    async def key_for(self, token: str) -> Any:
        kid = _kid(token)
        named = [key for key in self._keys if key.key_id == kid or (kid is None and len(self._keys) == 1)]
        if not named:
            raise TokenError("The key that signed this token is not known here.")
        return named[0].key


class _FetchedKeys(_Keys):
    """A set of keys behind an address; the token has to name one."""

    def __init__(self, keys: FetchedKeys, algorithm: str) -> None:
        self._keys = keys
        self._algorithm = algorithm

    async def key_for(self, token: str) -> Any:
        kid = _kid(token)
        if kid is None:
            raise TokenError("This token does not say which key signed it.")
        key = await self._keys.named(kid)
        return await _PublishedKeys([key] if key else [], self._algorithm).key_for(token)


def _keys_of(issuer: Issuer) -> _Keys:
    if issuer.secret is not None:
        return _Keys(issuer.secret.get_secret_value())
    if issuer.jwks_file is None:
        return _FetchedKeys(FetchedKeys(issuer.jwks_url, private=issuer.allow_private), issuer.algorithm)
    try:
        keys = jwt.PyJWKSet.from_json(issuer.jwks_file.read_text(encoding="utf-8")).keys
    except (OSError, ValueError, jwt.PyJWTError) as error:
        raise ValueError(f"the keys of issuer {issuer.name} in {issuer.jwks_file} cannot be read: {error}") from error
    return _PublishedKeys(keys, issuer.algorithm)


def _kid(token: str) -> str | None:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError("This is neither a Farebox key nor a token.") from None
    return kid if isinstance(kid, str) else None


def _decoded(token: str, key: Any, algorithm: str, *, issuer: str, audience: str | None) -> dict[str, Any]:
    required = ["exp", "iss", *(["aud"] if audience else [])]
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=_LEEWAY_S,
            options={"require": required},
        )
    except jwt.ExpiredSignatureError:
        raise TokenExpired("This token has expired. Sign in again.") from None
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        # The library's sentences name claims, never their values.
        raise TokenError(f"This token is not valid: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    match error:
        case jwt.InvalidAudienceError():
            return "it was made for somebody else"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {error.claim}"
        case jwt.InvalidSignatureError() | jwt.InvalidAlgorithmError():
            return "its signature does not match"
        case _:
            return "it does not follow its issuer's rules"


def _sighting(claims: dict[str, Any], issuer: Issuer) -> Sighting:
    subject = _subject(claims.get(issuer.subject_claim))
    return Sighting(issuer.name, subject, _text(claims.get(issuer.email_claim)), _text(claims.get(issuer.name_claim)))


def _issued_at(claims: dict[str, Any]) -> float | None:
    issued_at = claims.get("iat")
    return float(issued_at) if isinstance(issued_at, int | float) and not isinstance(issued_at, bool) else None


def _subject(value: object) -> str:
    if not (isinstance(value, str) and 0 < len(value) <= SUBJECT_MAX and value.isprintable()):
        raise TokenError("This token does not name its user.")
    return value


def _text(value: object) -> str:
    """Something to show: what is not printable text of a bounded length counts as not said."""
    return value.strip() if isinstance(value, str) and len(value) <= TEXT_MAX and value.isprintable() else ""


def refusal_of(error: TokenError | KeysUnavailable) -> Refusal:
    """What the caller is told."""
    match error:
        case TokenExpired():
            return Refusal.of("key_expired", str(error))
        case TokenError():
            return Refusal.of("invalid_api_key", str(error))
        case _:
            wait = int(PAUSE_S)
            message = f"Sign-in cannot be checked at the moment. Try again in {wait} s."
            return Refusal.of("ledger_unavailable", message, retry_after_s=wait)
