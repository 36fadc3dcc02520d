"""The OpenAPI document: what the routes say of themselves, and what holds for all of them, said once.

Routes need not declare the problems every request may meet, nor the links: what a creation gives can be read, changed
and deleted under its own path, which is told from the paths alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from admin_api.body import BODY_MAX
from admin_api.door import PREFIX
from admin_api.paging import LIMIT_MAX
from admin_api.problems import MEDIA_TYPE, ProblemDetails

_METHODS = ("get", "post", "put", "patch", "delete")
_ALWAYS = (400, 401, 403, 422, 429, 500, 503)
_WITH_BODY = (408, 413, 415)
_OPEN = ("login", "refresh")
_REFERENCE = "#/components/schemas/"
_DESCRIPTION = f"""\
What admins do to tiers, prices, users, groups, credits and keys. Base: `{PREFIX}/v1`.

**Who you are**: `Authorization: Bearer` with the admin key or an access token of `POST /v1/auth/login`.
**Money** is a decimal string in USD. **Instants** are RFC 3339.
**Lists** take `limit` (at most {LIMIT_MAX}) and `cursor`; `format=csv` or `xlsx` gives the whole list as a file.
**Writes** take `Idempotency-Key`; bodies are JSON of at most {BODY_MAX} bytes; unknown fields are refused.
**ETags**: what has one wants it back in `If-Match`; a stale one is refused with 409.
**Problems** are `{MEDIA_TYPE}` (RFC 9457) and name every wrong field.
"""


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of this application; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=_DESCRIPTION,
            routes=app.routes,
            servers=[{"url": PREFIX, "description": "this Farebox"}],
        )
        _complete(document)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_problem_schemas())
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, method, operation in operations(document):
        _refusals(path, method, operation)
        _required(operation)
        if method in ("post", "patch", "delete") and operation["operationId"] not in _OPEN:
            _idempotency(operation)
    _link(document)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of everything in a document."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _problem_schemas() -> dict[str, Any]:
    _, made = models_json_schema([(ProblemDetails, "serialization")], ref_template=_REFERENCE + "{model}")
    schemas: dict[str, Any] = made["$defs"]
    return {("Problem" if name == "ProblemDetails" else name): schema for name, schema in schemas.items()}


def _refusals(path: str, method: str, operation: dict[str, Any]) -> None:
    """What any request of this shape may meet."""
    statuses = set(_ALWAYS)
    if "requestBody" in operation:
        statuses |= set(_WITH_BODY)
    if "{" in path:
        statuses.add(404)
    if method in ("post", "patch", "delete"):
        statuses.add(409)
    if operation["operationId"] in _OPEN:
        operation["security"] = []
    responses = operation["responses"]
    for status in sorted(statuses):
        if status == 422 or str(status) not in responses:
            responses[str(status)] = _problem(status)


def _required(operation: dict[str, Any]) -> None:
    """A version that is missing is told with 428 and not as a wrong parameter; it is required all the same."""
    if "428" in operation["responses"]:
        for parameter in operation["parameters"]:
            if parameter["name"] == "If-Match":
                parameter |= {"required": True, "schema": {"type": "string", "maxLength": 100, "examples": ['"3"']}}


def _problem(status: int) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE + "Problem"}}},
    }
    if status in (429, 503):
        reply["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return reply


def _idempotency(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    if not any(each["name"].lower() == "idempotency-key" for each in parameters):
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A name of yours for this write; sent again within 24 hours it is not done twice.",
                "schema": {"type": "string", "maxLength": 200, "pattern": "^[!-~]+$"},
            }
        )


def _link(document: dict[str, Any]) -> None:
    """From what creates things to what takes their name in its path."""
    for path, method, operation in operations(document):
        if method == "post" and (reply := operation["responses"].get("201")) is not None:
            reply["links"] = {**_links(document, path, _fields(document, reply)), **reply.get("links", {})}


def _links(document: dict[str, Any], path: str, fields: set[str]) -> dict[str, Any]:
    found = {}
    for target, _, operation in operations(document):
        below = target.removeprefix(f"{path}/")
        if below == target or not below.startswith("{") or f"{path}{below}".count("{") != 1:
            continue
        parameter = below[1:].partition("}")[0]
        field = parameter if parameter in fields else "id"
        if field in fields:
            name = operation["operationId"]
            found[name] = {"operationId": name, "parameters": {parameter: f"$response.body#/{field}"}}
    return found


def _fields(document: dict[str, Any], reply: dict[str, Any]) -> set[str]:
    """The fields of what this reply holds."""
    schema = reply.get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"].get(schema["$ref"].removeprefix(_REFERENCE), {})
    return set(schema.get("properties", {}))
