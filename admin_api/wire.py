"""How values travel: bodies and replies, money, instants, names.

Money is a decimal string in USD on the wire and whole nano-USD inside. A JSON number is refused: some readers have made
a float of it before anybody could look. ``Usd`` is for bodies and ``UsdOut`` for replies; each model refuses the other.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from ledger.money import format_usd, parse_usd

T = TypeVar("T")

_USD_TEXT = r"^-?[0-9]{1,7}(\.[0-9]{1,9})?$"
_CONTROL = r"^[^\x00-\x1f\x7f]*$"
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class _Inward:
    """Marks a type that bodies alone may hold."""


class _Outward:
    """Marks a type that replies alone may hold."""


class Body(BaseModel):
    """What a request brings: unknown fields are refused, and what was sent is in no error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _refuse(cls, _Outward, "UsdOut is for replies; a body has Usd")


class Reply(BaseModel):
    """What a reply holds, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _refuse(cls, _Inward, "Usd is for bodies; a reply has UsdOut")


def _refuse(model: type[BaseModel], marker: type, why: str) -> None:
    for name, info in model.model_fields.items():
        if any(isinstance(each, marker) for each in _metadata(info)):
            raise TypeError(f"{model.__name__}.{name}: {why}")


def _metadata(annotation: Any) -> list[Any]:
    """Everything an annotation is annotated with, at any depth."""
    own = [*getattr(annotation, "metadata", ()), *getattr(annotation, "__metadata__", ())]
    inner = getattr(annotation, "annotation", None)
    parts = (inner,) if inner is not None else getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    parts = (*parts, origin) if hasattr(annotation, "__metadata__") else parts
    return own + [each for part in parts for each in _metadata(part)]


def is_money(annotation: Any) -> bool:
    """Whether a field of a reply holds money."""
    return any(isinstance(each, _Outward) for each in _metadata(annotation))


def _usd(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(_USD_TEXT, value):
        raise ValueError('must be an amount in USD written as text, like "12.50", with at most 9 decimals')
    return parse_usd(value)


def _positive(value: int) -> int:
    if value <= 0:
        raise ValueError("must be above zero")
    return value


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("must not be below zero")
    return value


def _usd_schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": ["12.50"], "title": "USD"})


Usd = Annotated[int, BeforeValidator(_usd), _Inward(), _usd_schema(_USD_TEXT)]
"""In a body: a decimal string; nano-USD inside."""

UsdAbove0 = Annotated[
    int, BeforeValidator(_usd), AfterValidator(_positive), _Inward(), _usd_schema(_USD_TEXT.replace("-?", ""))
]
"""In a body: an amount above zero."""

UsdFrom0 = Annotated[
    int, BeforeValidator(_usd), AfterValidator(_not_negative), _Inward(), _usd_schema(_USD_TEXT.replace("-?", ""))
]
"""In a body: an amount that is not below zero."""

UsdOut = Annotated[
    int,
    PlainSerializer(format_usd, return_type=str),
    _Outward(),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{4,9}$", "examples": ["12.5000"], "title": "USD"}),
]
"""In a reply: nano-USD inside, a decimal string with four to nine decimals on the wire."""


def rfc3339(value: datetime) -> str:
    """An aware instant -> ``2026-12-01T00:00:00Z``, with microseconds where there are any."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _only_text(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[Tt ]", value)):
        return value
    raise ValueError('must be an instant with its zone, like "2026-12-01T00:00:00Z"')


def in_bounds(value: datetime) -> datetime:
    """The instant in UTC. Raises ValueError for one without a zone, or in another age."""
    if value.tzinfo is None:
        raise ValueError("must have a zone")
    # Compared before it is moved to UTC: moving an instant at the calendar's edge overflows.
    if not _FIRST <= value < _LAST:
        raise ValueError("must lie between 1970 and 2200")
    return value.astimezone(UTC)


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_only_text),
    AfterValidator(in_bounds),
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-01T00:00:00Z"]}),
]
"""RFC 3339 with a zone on the wire, aware UTC inside; bodies, replies and parameters."""

Text = Annotated[str, StringConstraints(max_length=1000, pattern=_CONTROL)]
"""One line of text without control characters; may be empty."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_CONTROL)]
"""A name somebody gave: one line, not empty."""

Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_CONTROL)]
"""Why somebody did it; kept in the audit."""

Email = Annotated[
    str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$")
]
"""An address, as far as one can tell without writing to it."""


class Page(Reply, Generic[T]):
    """One page of a list."""

    data: list[T] = Field(description="The objects of this page, in the list's order.")
    next_cursor: str | None = Field(
        description="Send it as `cursor` for the next page; null when there is none.", examples=["WyIwMTk4Il0"]
    )
