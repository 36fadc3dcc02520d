"""Every error as a problem: the framework's in the words of this house, the stores', and those nobody foresaw."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from accounts import store as accounts
from admin_api.away import is_away
from admin_api.passwords import PasswordsBusy
from admin_api.problems import Problem, Wrong, conflict, not_found, pointer, stale, unavailable, unprocessable
from config import catalog_write as catalog
from config.complaints import plain

_log = logging.getLogger("farebox.admin")

_KINDS = {"extra_forbidden": "is not a field of this request", "model_attributes_type": "must be an object"}


def problem_of(error: Exception, request_id: UUID) -> Problem:
    """What a caller is told of this error; one that is a defect is logged, and not told."""
    known = _known(error)
    if known is not None:
        return known
    if is_away(error):
        _log.warning("database away", extra={"request_id": str(request_id), "reason": repr(error)[:500]})
        return unavailable()
    _log.error("a defect", exc_info=error, extra={"request_id": str(request_id)})
    return Problem(500, "A defect here", "The log has it under this request's id.")


def _known(error: Exception) -> Problem | None:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return of_validation(error)
        case HTTPException():
            return of_http(error)
        case accounts.StaleWrite() | catalog.StaleWrite():
            return stale()
        case accounts.Conflict():
            return conflict(str(error))
        case PasswordsBusy():
            return unavailable("Too many passwords wait to be checked. Try again.")
    return None


def of_validation(error: RequestValidationError) -> Problem:
    """422 with every wrong field; 404 where the path names nothing; 400 where the body is not JSON."""
    errors = error.errors()
    if any(each["loc"][:1] == ("path",) for each in errors):
        return not_found()
    if any(each["type"] == "json_invalid" for each in errors):
        return Problem(400, "Malformed", "The body is not JSON.")
    wrongs = [wrong for each in errors if (wrong := _wrong(each)) is not None]
    return unprocessable("; ".join(f"{_place(wrong)}: {wrong.detail}" for wrong in wrongs[:5]), *wrongs)


def of_http(error: HTTPException) -> Problem:
    """What the router itself refuses: 404, 405."""
    if error.status_code == 404:
        return not_found()
    if error.status_code == 405:
        detail = "This is there, but not with this method."
        return Problem(405, "Method not allowed", detail, headers=dict(error.headers or {}))
    return Problem(error.status_code, "Refused", str(error.detail), headers=dict(error.headers or {}))


def _wrong(each: Any) -> Wrong | None:
    where, *steps = each["loc"]
    what = _KINDS.get(each["type"]) or plain(each)
    if what is None:
        return None
    if where == "body":
        return Wrong(what, pointer=pointer(steps))
    return Wrong(what, parameter=".".join(map(str, steps)))


def _place(wrong: Wrong) -> str:
    return wrong.parameter or wrong.pointer.removeprefix("#/").replace("/", ".") or "body"
