"""An issuer of JWTs, as the settings name it. Its keys are fetched elsewhere; an HS secret is read here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from config.environment import environment_secret
from config.parts import SECRET_CHARS_MIN, Part
from config.places import literal_refusal

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Issuer(Part):
    """Someone whose JWTs are accepted: one algorithm, one key source, one audience."""

    name: str = Field(min_length=1, max_length=64, description="Realm of the users this issuer vouches for.")
    issuer: str = Field(min_length=1, description="Exact value of the claim iss.")
    audience: str = Field(min_length=1, description="Value the claim aud must hold.")
    algorithm: Algorithm = Field(description="The only algorithm accepted: " + ", ".join(get_args(Algorithm)) + ".")
    secret_env: str = Field(
        default="", description="Environment variable with the secret of an HS algorithm, 32 characters or more."
    )
    jwks_url: str = Field(
        default="", description="https:// address of the issuer's public keys (http:// on loopback only)."
    )
    jwks_file: Path | None = Field(default=None, description="File with the issuer's public keys.")
    allow_private: bool = Field(default=False, description="The address of its keys may lie in a private network.")
    subject_claim: str = Field(default="sub", min_length=1, description="Claim that names the user for ever.")
    email_claim: str = Field(default="email", description="Claim with the e-mail address.")
    name_claim: str = Field(default="name", description="Claim with the display name.")
    _secret: SecretStr | None = PrivateAttr(None)

    @property
    def secret(self) -> SecretStr | None:
        """The secret of an HS algorithm, as the environment had it at the start."""
        return self._secret

    @field_validator("jwks_url")
    @classmethod
    def _jwks_is_safe(cls, value: str) -> str:
        url = urlsplit(value)
        loopback = url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
        if value and not (url.scheme == "https" or loopback):
            raise ValueError("must begin with https://; keys fetched in the clear can be replaced on the way")
        return value

    @model_validator(mode="after")
    def _one_key_source(self) -> Issuer:
        sources = [name for name in ("secret_env", "jwks_url", "jwks_file") if getattr(self, name)]
        symmetric = self.algorithm.startswith("HS")
        if symmetric and sources != ["secret_env"]:
            raise ValueError(f"{self.algorithm} needs secret_env and nothing else as its key source")
        if not symmetric and (len(sources) != 1 or "secret_env" in sources):
            raise ValueError(f"{self.algorithm} needs either jwks_url or jwks_file as its key source")
        if reason := literal_refusal(self.jwks_url, private=self.allow_private):
            raise ValueError(f"jwks_url cannot be asked: {reason}")
        if symmetric:
            self._secret = _long_secret(self.secret_env)
        return self


def _long_secret(variable: str) -> SecretStr:
    secret = environment_secret(variable)
    if secret is None or len(secret) < SECRET_CHARS_MIN:
        raise ValueError(f"secret_env names {variable}, which must hold at least {SECRET_CHARS_MIN} characters")
    return secret
