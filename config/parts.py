"""The settings in parts, one for each room or engine they are handed to: values and their bounds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

SECRET_CHARS_MIN = 32
_SYNC_EVERY_MIN_S = 60
_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


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
        default=1, ge=1, le=64, description="Connections that open holds; each commits one batch at a time."
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
    post_batch_max: int = Field(default=400, ge=1, le=5000, description="Settlements posted in one commit.")

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
        min_length=SECRET_CHARS_MIN,
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
