"""Who may do what: each route names the role it needs, and gets the caller.

Who the caller is was proven at the door (``door.py``) before anything of the request was read; here its role is
compared. A route without one of these dependencies is a defect that a test finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from admin_api.parameters import refuse_unknown
from admin_api.problems import forbidden
from ledger.audit import Actor

Role = Literal["owner", "admin", "support", "charges"]
"""``charges`` is no admin: a Farebox key with that scope, which may book charges and nothing else."""

ADMIN_KEY = "admin-key"
"""The name under which the admin key acts."""

_BEARER = HTTPBearer(
    scheme_name="bearer",
    auto_error=False,
    description="The admin key, or the access token of `POST /v1/auth/login`.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``actor`` goes into every write (``by=caller.actor``); ``admin_id`` is None for the admin key."""

    actor: Actor
    role: Role
    admin_id: UUID | None = None
    session_id: UUID | None = None
    key_id: UUID | None = None

    @property
    def scope(self) -> str:
        """Under which this caller's idempotency keys are kept apart from others'."""
        return str(self.admin_id or self.key_id or ADMIN_KEY)


class Allowed:
    """The dependency that lets these roles pass, with the parameters of the route. Raises Problem 403 for others."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> Caller:
        caller: Caller = request.state.caller
        if caller.role not in self.roles:
            raise forbidden(f"This needs the role {' or '.join(self.roles)}; yours is {caller.role}.")
        refuse_unknown(request)
        return caller


Reader = Annotated[Caller, Depends(Allowed("support", "admin", "owner"))]
"""May look."""

Writer = Annotated[Caller, Depends(Allowed("admin", "owner"))]
"""May change everything but admins."""

Owner = Annotated[Caller, Depends(Allowed("owner"))]
"""May change admins, too."""

Charger = Annotated[Caller, Depends(Allowed("admin", "owner", "charges"))]
"""May book a charge from outside."""
