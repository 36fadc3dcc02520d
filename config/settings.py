"""Every setting, built once at the entrance and handed out in parts.

The environment (``FAREBOX_…``, nested with ``__``) stands over one TOML file (``FAREBOX_CONFIG``, else ``farebox.toml``
where there is one). The catalogue in the same file is read by ``catalog_file.py``. Nothing here opens a connection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from config.complaints import Complaint, ComplaintsError, did_you_mean, path_text, plain
from config.places import literal_refusal
from config.toml_file import CATALOG_KEYS, read_toml

PREFIX = "FAREBOX_"
CONFIG_ENV = "FAREBOX_CONFIG"
_NESTING = "__"
_DEFAULT_FILE = Path("farebox.toml")
_SECRET_CHARS_MIN = 32
_ADMIN_KEY_CHARS_MIN = 16
_SYNC_EVERY_MIN_S = 60
# As browsers write it in the header Origin: nothing else would ever be equal to it.
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3
# A variable that is nearly a setting is a misspelt setting; others with our prefix are not ours to judge: Kubernetes
# makes FAREBOX_PORT and the like for a service of this name.
_MISSPELT = 0.9


class SettingsError(ComplaintsError):
    """Every setting that is wrong, each by the name the operator used."""


class Part(BaseModel):
    """One room's share of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Limits(Part):
    """Bounds of what is read, kept and run at once."""

    body_bytes_max: int = Field(default=32 * _MIB, ge=_KIB, le=_GIB, description="Largest request body, in bytes.")
    body_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="Seconds a caller may take to send its body; of an upload, to go on."
    )
    upload_bytes_max: int = Field(
        default=256 * _MIB, ge=_KIB, le=64 * _GIB, description="Largest upload (a form that may hold a file), in bytes."
    )
    upload_timeout_s: float = Field(
        default=600, gt=0, le=86_400, description="Seconds a caller may take to send an upload."
    )
    upload_room_bytes: int = Field(
        default=2 * _GIB,
        ge=_KIB,
        le=1024 * _GIB,
        description="Disk that uploads under way may take in <data_dir>/uploads, for each process; "
        "one caller's, a quarter of it.",
    )
    event_bytes_max: int = Field(
        default=8 * _MIB, ge=4 * _KIB, le=_GIB, description="Longest line of a streamed reply, in bytes."
    )
    reply_bytes_max: int = Field(
        default=64 * _MIB, ge=4 * _KIB, le=_GIB, description="Largest reply that is not streamed, in bytes."
    )
    send_timeout_s: float = Field(default=60, gt=0, le=3600, description="Seconds a caller may leave a stream unread.")
    streams_max: int = Field(default=2000, ge=1, le=1_000_000, description="Calls one process runs at once.")
    queue_s: float = Field(
        default=10, ge=0, le=120, description="Seconds embeddings wait for their turn rather than be refused; 0: none."
    )
    queue_max: int = Field(default=1000, ge=0, le=1_000_000, description="Embeddings waiting so in one process.")
    queue_user_max: int = Field(default=256, ge=0, le=100_000, description="Those of them of one user.")
    drained_streams_max: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description='Streams read to their end after the caller left (on_disconnect = "drain").',
    )
    drain_stream_s: float = Field(default=60, ge=0, le=3600, description="Seconds such a stream is read at most.")
    retries_max: int = Field(
        default=2, ge=0, le=10, description="Further tries of a call before its first byte, fallbacks included."
    )
    keys_cached: int = Field(default=50_000, ge=1, le=10_000_000, description="Keys and tokens one process remembers.")
    users_cached: int = Field(default=100_000, ge=1, le=10_000_000, description="Users one process remembers.")

    @model_validator(mode="after")
    def _an_upload_fits_its_room(self) -> Limits:
        if self.upload_room_bytes < self.upload_bytes_max:
            raise ValueError("upload_room_bytes must be at least upload_bytes_max, or the largest upload never fits")
        return self


class Timeouts(Part):
    """How long a backend may take; an upstream may have its own."""

    connect_s: float = Field(default=5, gt=0, le=300, description="Seconds to open a connection to the backend.")
    first_byte_s: float = Field(default=120, gt=0, le=3600, description="Seconds until the backend's reply begins.")
    idle_s: float = Field(default=60, gt=0, le=3600, description="Seconds between two pieces of a reply.")
    total_s: float = Field(default=600, gt=0, le=86_400, description="Seconds a call may last in all.")


class Bank(Part):
    """How the ledger's database is used."""

    pool_size: int = Field(default=12, ge=3, le=200, description="Database connections of one process.")
    statement_timeout_s: float = Field(
        default=5, gt=0, le=300, description="Seconds one database transaction may take."
    )
    hold_lanes: int = Field(
        default=2, ge=1, le=64, description="Connections that open holds; each commits one batch at a time."
    )
    hold_batch_max: int = Field(default=64, ge=1, le=1000, description="Holds opened in one commit.")
    hold_queue_max: int = Field(default=4096, ge=1, le=1_000_000, description="Holds waiting to be opened.")
    hold_ttl_s: float = Field(
        default=15, ge=3, le=600, description="Seconds after which a hold without a beat is reaped."
    )
    beat_s: float = Field(default=2, gt=0, le=60, description="Seconds between two beats of a running call.")
    beat_tokens: int = Field(
        default=512, ge=1, le=1_000_000, description="Tokens of output after which a beat is due at once."
    )
    post_batch_max: int = Field(default=200, ge=1, le=5000, description="Settlements posted in one commit.")

    @model_validator(mode="after")
    def _beats_fit_a_hold(self) -> Bank:
        if self.hold_ttl_s < 3 * self.beat_s:
            raise ValueError("hold_ttl_s must be at least three times beat_s, or a late beat loses a live hold")
        return self


class RedisPart(Part):
    """How the windows' Redis is used."""

    cluster: bool = Field(default=False, description="The URL names a node of a Redis Cluster.")
    on_failure: Literal["local", "refuse"] = Field(
        default="local",
        description="Redis away: count windows in each process with its share of the limit, or refuse calls (503).",
    )
    connect_timeout_s: float = Field(default=0.5, gt=0, le=60, description="Seconds to open a connection to Redis.")
    timeout_s: float = Field(default=1.0, gt=0, le=60, description="Seconds one command may take.")


class OpenWebUI(Part):
    """Users forwarded by Open WebUI, and the one they come from."""

    jwt_secret: SecretStr | None = Field(
        default=None,
        min_length=_SECRET_CHARS_MIN,
        description="Secret of the signed X-OpenWebUI-User-Jwt (FORWARD_USER_INFO_HEADER_JWT_SECRET there), 32 "
        "characters or more. Once set, plain user headers are refused.",
    )
    url: str = Field(
        default="",
        description="Address of Open WebUI, whose people, groups and models are brought here by its admin API.",
    )
    admin_key: SecretStr | None = Field(
        default=None, min_length=8, description="API key (sk-…) of one of its administrators; needed with the address."
    )
    realm: str = Field(
        default="open-webui",
        min_length=1,
        max_length=64,
        description="Name under which its users are kept apart, as its service key has it.",
    )
    sync_every_s: float = Field(
        default=0,
        ge=0,
        le=86_400,
        description="Seconds between two syncs, 60 or more; 0: only when asked, by an admin or by its webhook.",
    )
    grants: bool = Field(
        default=False, description="Let each sync show people there only the models their tiers allow."
    )
    notices: Literal["off", "status", "toast"] = Field(
        default="off",
        description="What people see in a chat when 80 or 95 % of their allowance are used, or their balance runs low: "
        "nothing, a line above the answer, or a toast.",
    )
    low_balance_usd: Decimal = Field(
        default=Decimal("1"),
        ge=0,
        le=1_000_000,
        max_digits=15,
        decimal_places=9,
        description="Balance below which somebody without an allowance is told so, in USD; 0: never.",
    )

    @property
    def syncs(self) -> bool:
        """Whether there is an Open WebUI to ask."""
        return bool(self.url) and self.admin_key is not None

    @field_validator("url")
    @classmethod
    def _is_its_root(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("must be an http:// or https:// address, without user, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _can_sync(self) -> OpenWebUI:
        if self.sync_every_s and not self.syncs:
            raise ValueError("sync_every_s needs url and admin_key")
        if 0 < self.sync_every_s < _SYNC_EVERY_MIN_S:
            raise ValueError(f"sync_every_s must be 0, or {_SYNC_EVERY_MIN_S} or more")
        return self


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


def environment_secret(variable: str) -> SecretStr | None:
    """The secret in this variable, such as an upstream's ``api_key_env``; None where it is unset or empty."""
    text = os.environ.get(variable, "")
    return SecretStr(text) if text else None


def _long_secret(variable: str) -> SecretStr:
    secret = environment_secret(variable)
    if secret is None or len(secret) < _SECRET_CHARS_MIN:
        raise ValueError(f"secret_env names {variable}, which must hold at least {_SECRET_CHARS_MIN} characters")
    return secret


class Settings(BaseSettings):
    """All of them. Frozen; secrets are SecretStr and the rejected values are never in an error."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_NESTING,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        default=None, description="Postgres of production. Absent: a real embedded one is started in the data folder."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis, Valkey or a Cluster node of production. Absent: a real embedded Valkey is started.",
    )
    data_dir: Path = Field(
        default=Path("farebox-data"),
        description="Folder of the embedded engines, the spool, uploads under way and made secrets.",
    )
    bind: str = Field(default="127.0.0.1:8080", description="Address and port of the gateway.")
    metrics_bind: str | None = Field(
        default=None, description="Another address and port for /metrics, which then leaves the first."
    )
    admin_bind: str | None = Field(
        default=None, description="Another address and port for /admin/api, which then leaves the first."
    )
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=_ADMIN_KEY_CHARS_MIN,
        description="Bearer of the admin API, which may do everything, 16 characters or more. Absent on the embedded "
        "Postgres: made and printed once. Absent elsewhere: only admins' accounts get in.",
    )
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        default=(),
        max_length=64,
        description="Proxies whose X-Forwarded-For is believed: addresses or networks, with commas between them. "
        "From anybody else the header means nothing.",
    )
    key_pepper: SecretStr | None = Field(
        default=None,
        min_length=_SECRET_CHARS_MIN,
        description="Secret under which key digests are made, 32 characters or more, the same on every replica. "
        "Absent: made once in the data folder.",
    )
    public_url: str = Field(
        default_factory=lambda known: f"http://{known['bind']}", description="Address people reach the gateway at."
    )
    upgrade_url: str = Field(
        default_factory=lambda known: f"{known['public_url'].rstrip('/')}/pricing",
        description="Address shown to someone whose money or tier does not suffice.",
    )
    link_s: int = Field(
        default=900,
        ge=60,
        le=86_400,
        description="Seconds for which the link to somebody's account page, in what that person is told, opens it.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        max_length=64,
        description="Web origins whose pages may call /v1 from a browser, like https://chat.example.org, with commas "
        "between them; * is any.",
    )
    default_tier: str = Field(default="free", min_length=1, description="Tier of a user seen for the first time.")
    default_language: str = Field(
        default="en", min_length=2, max_length=16, description="Language of a user seen for the first time."
    )
    drain_timeout_s: float = Field(
        default=30, ge=0, le=3600, description="Seconds running streams may go on after SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    openwebui: OpenWebUI = OpenWebUI()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    bank: Bank = Bank()
    redis: RedisPart = RedisPart()
    issuers: tuple[Issuer, ...] = Field(default=(), max_length=64)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over what the file says (which arrives as arguments)."""
        return env_settings, init_settings

    @field_validator("database_url")
    @classmethod
    def _asyncpg(cls, value: SecretStr | None) -> SecretStr | None:
        return value and SecretStr(database_url(value.get_secret_value()))

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("admin_key")
    @classmethod
    def _travels_as_a_bearer(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces, or no header can carry it")
        if value and value.get_secret_value().startswith("sk-fb-"):
            raise ValueError("must not look like a Farebox key (sk-fb-…)")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*" and not _ORIGIN.fullmatch(each):
                raise ValueError("must be * or like https://chat.example.org: small letters, no slash at the end")
        return value

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("bind", "metrics_bind", "admin_bind")
    @classmethod
    def _has_host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_bind(value)
        return value

    @field_validator("public_url", "upgrade_url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        # The address stands in sentences and headers, so white space and line breaks have no place in it.
        if not re.fullmatch(r"https?://[^\s/]+\S*", value):
            raise ValueError("must be an http:// or https:// address")
        return value

    @field_validator("issuers")
    @classmethod
    def _issuers_differ(cls, value: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
        for field in ("name", "issuer"):
            if len({getattr(issuer, field) for issuer in value}) < len(value):
                raise ValueError(f"two of them have the same {field}")
        return value


def load_settings() -> Settings:
    """The settings of this process. Raises SettingsError with everything that is wrong."""
    document: dict[str, Any] = {}
    try:
        if (path := config_path()) is not None:
            document = {name: value for name, value in read_toml(path).items() if name not in CATALOG_KEYS}
    except ComplaintsError as error:
        raise SettingsError(error.complaints) from error
    complaints = list(_misspelt_variables(os.environ))
    try:
        settings = Settings(**document)
    except ValidationError as error:
        complaints += _complaints(error)
    except SourceError as error:
        complaints.append(Complaint("environment", _unreadable(error)))
    if complaints:
        raise SettingsError(complaints)
    return settings


def config_path() -> Path | None:
    """The TOML file in use: ``FAREBOX_CONFIG`` (even where it does not exist: a typo must be told) or the default."""
    if named := os.environ.get(CONFIG_ENV):
        return Path(named)
    return _DEFAULT_FILE if _DEFAULT_FILE.exists() else None


def database_url(text: str) -> str:
    """Any usual spelling of a Postgres address -> the one the asynchronous driver takes. Raises ValueError."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise ValueError("must begin with postgresql://, postgres:// or postgresql+asyncpg://")
    # libpq's name for the TLS mode; the driver calls it ssl and takes the same values.
    return "postgresql+asyncpg://" + re.sub(r"([?&])sslmode=", r"\1ssl=", rest)


def split_bind(text: str) -> tuple[str, int]:
    """``127.0.0.1:8080`` or ``[::1]:8080`` -> host and port. Raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("must be host:port, like 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def settings_table() -> str:
    """Every setting as a Markdown table: name in the environment, default, meaning."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _rows(Settings, PREFIX)]
    return "\n".join(rows) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.default, Part):
            yield from _rows(type(field.default), f"{prefix}{name.upper()}{_NESTING}")
        elif name == "issuers":
            yield from _rows_of_issuers()
        else:
            yield f"{prefix}{name.upper()}", _default_text(name, field), field.description or ""


def _rows_of_issuers() -> Iterator[tuple[str, str, str]]:
    for name, field in Issuer.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`" if field.default else "–"
        yield f"[[issuers]] {name}", default, field.description or ""


def _default_text(name: str, field: Any) -> str:
    if field.default_factory is not None:
        return {"public_url": "`http://<bind>`", "upgrade_url": "`<public_url>/pricing`"}[name]
    return "–" if field.default in (None, (), "") else f"`{field.default}`"


def _complaints(error: ValidationError) -> Iterator[Complaint]:
    for entry in error.errors(include_url=False, include_input=False):
        what = plain(entry)
        if what is not None:
            location = entry["loc"]
            hint = did_you_mean(str(location[-1]), _siblings(location)) if entry["type"] == "extra_forbidden" else ""
            yield Complaint(_as_written(location), what + hint)


def _as_written(location: tuple[str | int, ...]) -> str:
    """The name the operator used: the variable where it is set, else the path in the file."""
    names = [str(step) for step in takewhile(lambda step: isinstance(step, str), location)]
    variable = PREFIX + _NESTING.join(names).upper()
    written = variable in {name.upper() for name in os.environ}
    within = path_text(location[len(names) :])
    return variable + within if written or config_path() is None else path_text(location)


def _siblings(location: tuple[str | int, ...]) -> list[str]:
    """Names that would have been right in this place."""
    part: Any = Settings
    for step in location[:-1]:
        if isinstance(step, str):
            part = Issuer if step == "issuers" else type(part.model_fields[step].default)
    return list(part.model_fields)


def _misspelt_variables(environment: Mapping[str, str]) -> Iterator[Complaint]:
    known = {name for name, _, _ in _rows(Settings, PREFIX)} | {CONFIG_ENV, PREFIX + "ISSUERS"}
    for name in environment:
        if (
            not name.startswith((PREFIX + "TEST_", PREFIX + "UPSTREAM"))
            and name.startswith(PREFIX)
            and name not in known
        ):
            close = did_you_mean(name, known, cutoff=_MISSPELT)
            if close and _NESTING not in name:
                yield Complaint(name, "is not a setting" + close)


def _unreadable(error: SourceError) -> str:
    # The library names the field in quotes and quotes no value.
    named = re.search(r'field "(\w+)"', str(error))
    return f"{PREFIX}{named.group(1).upper()} must be JSON" if named else "a nested setting cannot be read"
