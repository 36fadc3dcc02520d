"""Roles."""

from __future__ import annotations

from typing import get_args

import pytest
from fastapi.routing import APIRoute
from starlette.requests import Request

from admin_api.access import Caller, Charger, Owner, Reader, Role, Writer
from admin_api.audit import router
from admin_api.problems import Problem
from ledger.audit import Actor

MAY = {
    "owner": {"Reader", "Writer", "Owner", "Charger"},
    "admin": {"Reader", "Writer", "Charger"},
    "support": {"Reader"},
    "charges": {"Charger"},
}


(list_audit,) = [route for route in router.routes if isinstance(route, APIRoute) and route.path == "/v1/audit"]


@pytest.mark.parametrize("role", get_args(Role))
def test_a_role_may_what_it_may(role: Role) -> None:
    caller = Caller(Actor("x", role), role)
    request = Request({"type": "http", "state": {"caller": caller}, "query_string": b"", "route": list_audit})
    passed = set()
    for name, needed in (("Reader", Reader), ("Writer", Writer), ("Owner", Owner), ("Charger", Charger)):
        allowed = get_args(needed)[1].dependency
        try:
            assert allowed(request, None) is caller
            passed.add(name)
        except Problem as problem:
            assert problem.status == 403 and role in problem.detail
    assert passed == MAY[role]
