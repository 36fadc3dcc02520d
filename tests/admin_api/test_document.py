"""The OpenAPI document says what the API does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from admin_api.app import application
from admin_api.document import operations

DOCUMENT: dict[str, Any] = application().openapi()
OPERATIONS = [(f"{method} {path}", path, method, operation) for path, method, operation in operations(DOCUMENT)]
EACH = pytest.mark.parametrize(
    ("path", "method", "operation"), [each[1:] for each in OPERATIONS], ids=[each[0] for each in OPERATIONS]
)
OPEN = {"login", "refresh"}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_it_is_openapi_3_1_with_one_server_and_one_way_in() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/admin/api"]
    assert {scheme["scheme"] for scheme in DOCUMENT["components"]["securitySchemes"].values()} == {"bearer"}


def test_every_route_that_is_there_is_in_it() -> None:
    routes = [route for route in application().routes if isinstance(route, APIRoute) and route.include_in_schema]
    there = {(route.path_format, method.lower()) for route in routes for method in route.methods or ()}
    assert {(path, method) for _, path, method, _ in OPERATIONS} == there
    assert all(path.startswith("/v1/") for path, _ in there)


def test_an_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "__" in name or not name.islower()]


@EACH
def test_an_operation_is_described(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"] and operation["description"] and operation["tags"]
    for parameter in operation.get("parameters", ()):
        assert parameter["in"] == "path" or parameter.get("description"), parameter["name"]


@EACH
def test_an_operation_says_how_it_refuses(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    expected = {"400", "401", "403", "422", "429", "500", "503"}
    expected |= {"408", "413", "415"} if "requestBody" in operation else set()
    expected |= {"404"} if "{" in path else set()
    assert expected <= set(responses)
    for status, response in responses.items():
        assert status < "400" or response["content"] == PROBLEM, status
    assert operation.get("security") == ([] if operation["operationId"] in OPEN else [{"bearer": []}])


@EACH
def test_a_write_takes_an_idempotency_key(path: str, method: str, operation: dict[str, Any]) -> None:
    names = [parameter["name"].lower() for parameter in operation.get("parameters", ())]
    takes = method in ("post", "patch", "delete") and operation["operationId"] not in OPEN
    assert names.count("idempotency-key") == takes


@EACH
def test_where_a_version_is_required_it_says_so(path: str, method: str, operation: dict[str, Any]) -> None:
    required = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "header" and each["required"]]
    assert required == (["If-Match"] if "428" in operation["responses"] else [])


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every body and reply."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, inner in schema.get("properties", {}).items():
            yield f"{name}.{field}", inner


def test_every_field_is_described() -> None:
    assert not [name for name, schema in fields() if not schema.get("description")]


def test_every_field_a_person_could_not_guess_has_an_example() -> None:
    """One that names its values, is true or false, an instant, or an object described elsewhere is guessed."""
    assert not [name for name, schema in fields() if not (guessable(schema) or "examples" in schema)]


def guessable(schema: dict[str, Any]) -> bool:
    told = ("enum", "const", "$ref", "examples")
    if any(name in schema for name in told) or schema.get("type") in ("boolean", "null"):
        return True
    if schema.get("format") == "date-time":
        return True
    if "items" in schema:
        return guessable(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        return guessable(schema["additionalProperties"])
    choices = schema.get("anyOf", ())
    return bool(choices) and all(map(guessable, choices))


def test_no_object_of_ours_takes_or_gives_more_than_it_says() -> None:
    loose = [
        name
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if "properties" in schema and schema.get("additionalProperties") is not False
    ]
    assert set(loose) <= {"Problem", "WrongField"}


def test_what_is_made_leads_to_what_can_be_done_with_it() -> None:
    made = DOCUMENT["paths"]["/v1/admins"]["post"]["responses"]["201"]["links"]
    assert made["get_admin"] == {"operationId": "get_admin", "parameters": {"admin_id": "$response.body#/id"}}
    assert set(made) == {"get_admin", "change_admin", "delete_admin"}
    unlinked = [
        operation["operationId"]
        for _, path, method, operation in OPERATIONS
        if method == "post" and "201" in operation["responses"] and f"{path}/{{" in str(list(DOCUMENT["paths"]))
        if not operation["responses"]["201"].get("links") and "{" not in path
    ]
    assert not unlinked


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    missing = {ref for ref in references(DOCUMENT) if ref.removeprefix("#/components/schemas/") not in schemas}
    assert not missing


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)
