"""What a caller of the admin API is told instead of a result: problem details as RFC 9457 has them.

A problem is raised anywhere and rendered in one place. Nothing that was sent is repeated in one but names of fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:farebox:problem:"
_ERRORS_MAX = 100
_CODES = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "timeout",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    428: "precondition-required",
    429: "too-many-requests",
    500: "internal",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong: ``pointer`` into the body (``#/prices/0/input``) or the ``parameter``'s name."""

    detail: str
    pointer: str = ""
    parameter: str = ""

    def shown(self) -> dict[str, str]:
        place = {"pointer": self.pointer} if self.pointer else {"parameter": self.parameter} if self.parameter else {}
        return {**place, "detail": self.detail}


@dataclass(eq=False)
class Problem(Exception):
    """A refusal. ``code`` is the last word of its ``type``, for machines; without one it follows from the status.
    ``more`` are further members of the document (``{"available": "0.0040"}``)."""

    status: int
    title: str
    detail: str = ""
    errors: Sequence[Wrong] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail}"

    def document(self, instance: str) -> dict[str, Any]:
        """The problem as JSON; ``instance`` names this one occurrence."""
        known: dict[str, Any] = {"type": _TYPE + (self.code or _CODES.get(self.status, "refused")), "title": self.title}
        known |= {"status": self.status, "detail": self.detail, "instance": instance}
        shown = {"errors": [wrong.shown() for wrong in self.errors[:_ERRORS_MAX]]} if self.errors else {}
        return {**known, **shown, **self.more}

    def reply(self, instance: str) -> JSONResponse:
        """The problem as a reply."""
        return JSONResponse(self.document(instance), self.status, dict(self.headers), MEDIA_TYPE)


def unauthenticated(detail: str) -> Problem:
    """401: nobody we know."""
    return Problem(401, "Who are you?", detail, headers={"www-authenticate": 'Bearer realm="farebox-admin"'})


def forbidden(detail: str) -> Problem:
    """403: known, but not for this."""
    return Problem(403, "Not allowed", detail)


def not_found() -> Problem:
    """404, in the same words whatever is missing: it never tells an id of somebody else from one that never was."""
    return Problem(404, "Not found", "There is nothing here that you can see.")


def conflict(detail: str, *, code: str = "", retry_after_s: int | None = None, **more: Any) -> Problem:
    """409: not while things stand as they do. ``more`` become members of the document."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Problem(409, "In conflict with what is there", detail, headers=headers, code=code, more=more)


def stale() -> Problem:
    """409: somebody else wrote since the caller read."""
    detail = "It has changed since you read it. Read it again, look at what changed, and send the new ETag in If-Match."
    return Problem(409, "Changed meanwhile", detail, code="stale-write")


def unprocessable(detail: str, *errors: Wrong, code: str = "") -> Problem:
    """422: understood, but it cannot be so; ``errors`` name each field that is wrong."""
    return Problem(422, "Not valid", detail, errors=errors, code=code)


@contextmanager
def told() -> Iterator[None]:
    """What the rooms below find wrong with a value is told as it is, with 422."""
    try:
        yield
    except ValueError as error:
        raise unprocessable(str(error)) from None


def wrong_field(pointer: str, detail: str) -> Problem:
    """422 for one field of the body: ``wrong_field("tier", "there is no tier gold")``."""
    path = pointer if pointer.startswith("#/") else f"#/{pointer}"
    return unprocessable(f"{path.removeprefix('#/')}: {detail}", Wrong(detail, pointer=path))


def wrong_parameter(name: str, detail: str) -> Problem:
    """422 for one parameter of the query or one header."""
    return unprocessable(f"{name}: {detail}", Wrong(detail, parameter=name))


def too_many(detail: str, retry_after_s: int) -> Problem:
    """429 with the wait."""
    return Problem(429, "Too many tries", detail, headers={"retry-after": str(retry_after_s)})


_AWAY = "The database does not answer. Try again, a write with the same Idempotency-Key."


def unavailable(detail: str = _AWAY) -> Problem:
    """503 with a short wait."""
    return Problem(503, "Not available", detail, headers={"retry-after": "2"})


def pointer(steps: Iterable[str | int]) -> str:
    """``("prices", 0, "a/b")`` -> ``#/prices/0/a~1b`` (RFC 6901)."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class WrongField(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(title="WrongField")

    detail: str = Field(description="What is wrong, in words.", examples=["is missing"])
    pointer: str | None = Field(None, description="Where in the body (JSON pointer).", examples=["#/amount"])
    parameter: str | None = Field(None, description="Which parameter or header.", examples=["limit"])


class ProblemDetails(BaseModel):
    """A refusal (RFC 9457)."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str = Field(description="What kind of problem, for machines.", examples=["urn:farebox:problem:not-found"])
    title: str = Field(description="The kind in words.", examples=["Not found"])
    status: int = Field(description="The reply's status.", examples=[404])
    detail: str = Field(description="What is wrong here.", examples=["There is nothing here that you can see."])
    instance: str = Field(
        description="This one occurrence: its request id, which the log has too.",
        examples=["urn:uuid:0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"],
    )
    errors: list[WrongField] | None = Field(None, description="Every field that is wrong.")


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses=``: problems beside those that every route has (see ``document.py``)."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": _REFERENCE}}}
        for status in statuses
    }


_REFERENCE = {"$ref": "#/components/schemas/Problem"}
