"""Parameters nobody asked for: a misspelt filter would list everything and look as if it had been heard."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from admin_api.problems import Wrong, unprocessable
from config.complaints import did_you_mean


def refuse_unknown(request: Request) -> None:
    """Raises Problem 422 that names every parameter of the query this route does not take."""
    if not request.query_params:
        return
    known = _known(request.scope["route"])
    if unknown := sorted(set(request.query_params) - known):
        wrongs = [Wrong(f"is not a parameter here{did_you_mean(name, known)}", parameter=name) for name in unknown]
        raise unprocessable("; ".join(f"{wrong.parameter}: {wrong.detail}" for wrong in wrongs[:5]), *wrongs)


def _known(route: APIRoute) -> set[str]:
    return {field.alias for field in get_flat_params(route.dependant) if isinstance(field.field_info, Query)}
