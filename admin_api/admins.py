"""Admins' accounts: list, create, read, change, delete. The owners' own, and the example for every other noun.

A noun has its request bodies and replies, then its routes, each of a few lines: who may, what is read or written by
which store, how it is shown. What is wrong is raised as a Problem where it is found.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, SecretStr

from admin_api.access import Caller, Owner
from admin_api.admin_accounts import Admin, AdminRole, EmailTaken, LastOwner, StaleAdmin
from admin_api.etag import IfMatch, show
from admin_api.house import AdminHouse, House
from admin_api.paging import Paging, listed
from admin_api.problems import Problem, conflict, declared, not_found, stale, wrong_field
from admin_api.wire import Body, Email, Instant, Page, Reply, Text

router = APIRouter(prefix="/v1/admins", tags=["admins"])

PASSWORD_MIN = 12
_ROLE = Field(description="owner: everything; admin: everything but admins; support: may look.", examples=["support"])
_PASSWORD = Field(
    min_length=PASSWORD_MIN, max_length=256, description="12 characters or more.", examples=["correct horse battery"]
)


class NewAdmin(Body):
    """An account to make."""

    email: Email = Field(description="Address the admin logs in with.", examples=["ada@example.org"])
    name: Text = Field("", description="Name to show.", examples=["Ada Lovelace"])
    role: AdminRole = _ROLE
    password: SecretStr = _PASSWORD


class AdminChange(Body):
    """What to change; what is left out stays. Another role, status or password ends the account's sessions at once."""

    email: Email | None = Field(None, description="Address to log in with.", examples=["ada@example.org"])
    name: Text | None = Field(None, description="Name to show.", examples=["Ada Lovelace"])
    role: AdminRole | None = Field(None, description="The new role.", examples=["admin"])
    status: Literal["active", "suspended"] | None = Field(None, description="Suspended: may not log in.")
    password: SecretStr | None = Field(
        None, min_length=PASSWORD_MIN, max_length=256, description="A new password.", examples=["correct horse battery"]
    )


class AdminReply(Reply):
    """An admin's account."""

    id: UUID = Field(description="Unchanging id.", examples=["0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"])
    email: str = Field(description="Address the admin logs in with.", examples=["ada@example.org"])
    name: str = Field(description="Name to show.", examples=["Ada Lovelace"])
    role: AdminRole = _ROLE
    status: Literal["active", "suspended"] = Field(description="Suspended: may not log in.", examples=["active"])
    version: int = Field(description="Counts changes; the ETag.", examples=[1])
    created_at: Instant = Field(description="When it was made.")
    updated_at: Instant = Field(description="When it last changed.")
    last_login_at: Instant | None = Field(description="When it last logged in.")

    @classmethod
    def of(cls, admin: Admin) -> AdminReply:
        """The account as it is shown: without the hash."""
        return cls(**{name: getattr(admin, name) for name in cls.model_fields})


@router.get("", operation_id="list_admins", summary="List admins", **listed(AdminReply))
async def list_admins(
    house: House,
    caller: Owner,
    paging: Paging,
    search: Annotated[Text, Query(description="Part of the address or name.", examples=["ada"])] = "",
) -> Page[AdminReply] | Response:
    """Accounts, oldest first."""
    return await paging.answer(
        "admins",
        lambda after, limit: house.admins.page(search=search, after=after, limit=limit),
        key=lambda admin: (admin.created_at, admin.id),
        types=(datetime, UUID),
        shape=AdminReply.of,
        model=AdminReply,
    )


@router.post("", operation_id="create_admin", summary="Create an admin", status_code=201, responses=declared(409))
async def create_admin(house: House, caller: Owner, body: NewAdmin, response: Response) -> AdminReply:
    """Make an account. The first one is made with the admin key."""
    is_no_guess(body.password, body.email)
    digest = await house.passwords.hash(body.password.get_secret_value())
    try:
        admin = await house.admins.create(
            email=body.email, name=body.name, role=body.role, password_hash=digest, by=caller.actor
        )
    except EmailTaken:
        raise _email_taken() from None
    response.headers["location"] = f"/admin/api/v1/admins/{admin.id}"
    show(response, admin.version)
    return AdminReply.of(admin)


@router.get("/{admin_id}", operation_id="get_admin", summary="Read an admin")
async def get_admin(house: House, caller: Owner, admin_id: UUID, response: Response) -> AdminReply:
    """One account, with its ETag."""
    admin = await house.admins.find(admin_id)
    if admin is None:
        raise not_found()
    show(response, admin.version)
    return AdminReply.of(admin)


@router.patch("/{admin_id}", operation_id="change_admin", summary="Change an admin", responses=declared(409, 428))
async def change_admin(
    house: House, caller: Owner, admin_id: UUID, body: AdminChange, version: IfMatch, response: Response
) -> AdminReply:
    """Change what the body names. The last active owner stays one."""
    news = {name: getattr(body, name) for name in body.model_fields_set - {"password"}}
    for name, value in news.items():
        if value is None:
            raise wrong_field(name, "must not be null; leave it out to keep what is there")
    if body.password is not None:
        is_no_guess(body.password, news.get("email", ""))
        news["password_hash"] = await house.passwords.hash(body.password.get_secret_value())
    admin = await changed(house, caller, admin_id, version, **news)
    show(response, admin.version)
    return AdminReply.of(admin)


@router.delete(
    "/{admin_id}", operation_id="delete_admin", summary="Delete an admin", status_code=204, responses=declared(409, 428)
)
async def delete_admin(house: House, caller: Owner, admin_id: UUID, version: IfMatch) -> None:
    """The account and its sessions end; what it did stays in the audit."""
    await changed(house, caller, admin_id, version, action="admin.delete", status="deleted")


async def changed(
    house: AdminHouse, caller: Caller, admin_id: UUID, version: int, *, action: str = "admin.change", **news: object
) -> Admin:
    """The account after the change. Raises Problem 404 and 409."""
    try:
        admin = await house.admins.change(admin_id, expected=version, by=caller.actor, action=action, **news)
    except StaleAdmin:
        raise stale() from None
    except LastOwner:
        raise conflict("This is the last active owner. Make another one first.", code="last-owner") from None
    except EmailTaken:
        raise _email_taken() from None
    if admin is None:
        raise not_found()
    return admin


def _email_taken() -> Problem:
    return conflict("Another admin has this e-mail address.", code="email-taken")


def is_no_guess(password: SecretStr, email: str) -> None:
    """Raises Problem 422 for a password that everybody tries first."""
    text = password.get_secret_value().lower()
    if text == email.lower() or len(set(text)) < 4:
        raise wrong_field("password", "is too easy to guess")
