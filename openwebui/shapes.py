"""What Open WebUI's admin API says, as far as it is read here. Pure.

Fields that are not named are not looked at; where a whole document is sent back it is kept as it came.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

PENDING = "pending"
"""The role of somebody who may not do anything there yet."""

ADMIN = "admin"
EVERYBODY = "*"


class Person(Struct, frozen=True):
    """A user there. The id is for ever; ``group_ids`` are the groups it was put into, not those above them."""

    id: str
    email: str = ""
    name: str = ""
    role: str = "user"
    group_ids: tuple[str, ...] = ()


class People(Struct, frozen=True):
    """One page of users, and how many there are in all."""

    users: tuple[Person, ...]
    total: int


class Circle(Struct, frozen=True):
    """A group there. Names repeat, and may hold commas; who belongs to a group belongs to the one above it, too."""

    id: str
    name: str
    parent_group_id: str | None = None


class Grant(Struct, frozen=True):
    """Who may see a model: a group, a user, or everybody (the user ``*``)."""

    principal_type: str
    principal_id: str
    permission: str = "read"


class Row(Struct, frozen=True):
    """What is kept there of a model of a connection. It stands over what the connection says of the model."""

    id: str
    name: str = ""
    meta: dict[str, Any] = {}
    params: dict[str, Any] = {}
    access_grants: tuple[Grant, ...] | None = None
    is_active: bool = True


class Shown(Struct, frozen=True, rename={"url_index": "urlIdx"}):
    """A model in the list people choose from. ``openai`` is the entry as its connection gave it; ``url_index`` says by
    which connection it came."""

    id: str
    name: str = ""
    url_index: int | None = None
    openai: dict[str, Any] | None = None
    info: dict[str, Any] | None = None
    preset: bool = False


class ShownList(Struct, frozen=True):
    """All of them."""

    data: tuple[Shown, ...]


class Address(Struct, frozen=True):
    """Where something is asked for."""

    url: str = ""


class Embedding(Struct, frozen=True, rename="upper"):
    """How uploads are made searchable there, and where the engine ``openai`` asks."""

    rag_embedding_engine: str = ""
    rag_embedding_batch_size: int = 1
    openai_config: Address = field(name="openai_config", default=Address())


class Webhook(Struct, frozen=True):
    """An address that is told of events."""

    id: str
    name: str = ""
    url: str = ""
    enabled: bool = True
    events: tuple[str, ...] = ()
