"""Every setting, built once at the entrance and handed out in parts.

The environment (``FAREBOX_…``, nested with ``__``) stands over one TOML file (``FAREBOX_CONFIG``, else ``farebox.toml``
where there is one). The catalogue in the same file is read by ``catalog_file.py``. Nothing here opens a connection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from config.complaints import Complaint, ComplaintsError, did_you_mean, path_text, plain
from config.issuer import Issuer
from config.parts import SECRET_CHARS_MIN, Bank, Limits, OpenWebUI, Part, RedisPart, Timeouts
from config.toml_file import CATALOG_KEYS, read_toml

PREFIX = "FAREBOX_"
CONFIG_ENV = "FAREBOX_CONFIG"
_NESTING = "__"
_DEFAULT_FILE = Path("farebox.toml")
_ADMIN_KEY_CHARS_MIN = 16
# As browsers write it in the header Origin: nothing else would ever be equal to it.
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
# A variable that is nearly a setting is a misspelt setting; others with our prefix are not ours to judge: Kubernetes
# makes FAREBOX_PORT and the like for a service of this name.
_MISSPELT = 0.9


class SettingsError(ComplaintsError):
    """Every setting that is wrong, each by the name the operator used."""


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
        min_length=SECRET_CHARS_MIN,
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
