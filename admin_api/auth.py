"""Logging in and out: tokens, one's own password, sessions and history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NamedTuple, cast
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from admin_api.access import Caller, Reader
from admin_api.admin_accounts import Admin, AdminRole
from admin_api.admins import PASSWORD_MIN, AdminReply, is_no_guess
from admin_api.house import AdminHouse, House
from admin_api.logins import LockedOut, Login, Outcome, Try
from admin_api.paging import Paging, listed
from admin_api.passwords import PasswordsBusy
from admin_api.people import ID
from admin_api.problems import forbidden, not_found, too_many, unauthenticated
from admin_api.sessions import Renewed, Session
from admin_api.tokens import ACCESS_S
from admin_api.wire import Body, Email, Instant, Page, Reply

router = APIRouter(prefix="/v1/auth", tags=["auth"])

_MEANWHILE = "Your account changed meanwhile: log in again."


class Credentials(Body):
    """Who logs in."""

    email: Email = Field(description="The account's address.", examples=["ada@example.org"])
    password: SecretStr = Field(min_length=1, max_length=256, description="Its password.", examples=["correct horse"])


class RefreshToken(Body):
    """The refresh token of the last login or renewal."""

    refresh_token: SecretStr = Field(
        min_length=1, max_length=500, description="Good for one renewal.", examples=["fbr_AZjyofx8HnPcUZo_bejApakbHx"]
    )


class NewPassword(Body):
    """One's own password, old and new."""

    current: SecretStr = Field(min_length=1, max_length=256, description="The password so far.", examples=["correct"])
    password: SecretStr = Field(
        min_length=PASSWORD_MIN, max_length=256, description="The new one.", examples=["battery staple horse"]
    )


class TokensReply(Reply):
    """What a login or a renewal gives."""

    access_token: str = Field(description="Bearer of the requests to come.", examples=["eyJhbGciOiJIUzI1NiJ9.e30.c2ln"])
    token_type: Literal["Bearer"] = Field(description="How to send it.", examples=["Bearer"])
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[ACCESS_S])
    refresh_token: str = Field(description="Good for one renewal.", examples=["fbr_AZjyofx8HnPcUZo_bejApakbHx"])
    session_id: UUID = Field(description="The session.", examples=[ID])
    session_expires_at: Instant = Field(description="When to log in again at the latest.")


class MeReply(Reply):
    """Who the caller is."""

    name: str = Field(description="Under which name the audit has what you do.", examples=["ada@example.org"])
    role: AdminRole = Field(description="What you may do.", examples=["owner"])
    admin: AdminReply | None = Field(description="Your account; null for the admin key.")
    session_id: UUID | None = Field(description="Your session; null for the admin key.", examples=[ID])


class SessionReply(Reply):
    """A live session."""

    id: UUID = Field(description="Its id.", examples=[ID])
    current: bool = Field(description="Whether it is the one this request came by.", examples=[True])
    address: str = Field(description="Where it was begun from.", examples=["192.0.2.7"])
    user_agent: str = Field(description="With which program.", examples=["Mozilla/5.0"])
    created_at: Instant = Field(description="When it was begun.")
    refreshed_at: Instant = Field(description="When it was last renewed.")
    expires_at: Instant = Field(description="When it ends by itself.")


class SessionsReply(Reply):
    """The live sessions of an admin; there are never more than twenty."""

    data: list[SessionReply] = Field(description="Newest first.")


class LoginReply(Reply):
    """One try to log in."""

    id: UUID = Field(description="Its id.", examples=[ID])
    at: Instant = Field(description="When.")
    outcome: Outcome = Field(
        description="ok, wrong, locked (too many tries), suspended, reused (an old refresh token).", examples=["ok"]
    )
    email: str = Field(description="The address that was given.", examples=["ada@example.org"])
    address: str = Field(description="Where it came from.", examples=["192.0.2.7"])
    user_agent: str = Field(description="With which program.", examples=["Mozilla/5.0"])

    @classmethod
    def of(cls, login: Login) -> LoginReply:
        return cls(**{name: getattr(login, name) for name in cls.model_fields})


class Origin(NamedTuple):
    """Where a request comes from."""

    address: str
    user_agent: str


def _origin(request: Request) -> Origin:
    return Origin(request.state.address, request.headers.get("user-agent", ""))


From = Annotated[Origin, Depends(_origin)]


@router.post("/login", operation_id="login", summary="Log in")
async def login(house: House, origin: From, body: Credentials) -> TokensReply:
    """An e-mail address and a password for two tokens. Ten wrong tries of one address in 15 minutes, or thirty from one
    place, lock it out until the oldest of them is older, also for the right password."""
    tried = Try(body.email, *origin)
    admin = await house.admins.by_email(body.email)
    login_id = await _proven(house, tried, admin, body.password)
    assert admin is not None
    if admin.status != "active":
        await house.logins.finish(login_id, "suspended")
        raise forbidden("This account is suspended.")
    admin = await _with_present_hash(house, admin, body.password)
    renewed = await house.sessions.begin(admin.id, admin.password_hash, tried)
    if renewed is None:
        raise unauthenticated(_MEANWHILE)
    await house.logins.finish(login_id, "ok")
    return _tokens(house, renewed)


@router.post("/refresh", operation_id="refresh", summary="Renew the tokens")
async def refresh(house: House, request: Request, origin: From, body: RefreshToken) -> TokensReply:
    """A refresh token for two new tokens. It is good once: used again, it ends its session."""
    presented = house.tokens.read_refresh(body.refresh_token.get_secret_value())
    tried = Try("", *origin)
    renewed = presented and await house.sessions.renew(presented, tried, request.state.request_id)
    if not renewed:
        raise unauthenticated("This refresh token is not the last one of a live session: log in again.")
    return _tokens(house, renewed)


@router.post("/logout", operation_id="logout", summary="Log out", status_code=204)
async def logout(house: House, caller: Reader) -> None:
    """End the session this request came by; the admin key has none."""
    if caller.admin_id is not None and caller.session_id is not None:
        await house.sessions.end(caller.session_id, caller.admin_id, "logged out", caller.actor)


@router.get("/me", operation_id="get_me", summary="Who am I?")
async def get_me(house: House, caller: Reader) -> MeReply:
    """The caller's name, role and account."""
    admin = await house.admins.find(caller.admin_id) if caller.admin_id else None
    return MeReply(
        name=caller.actor.name,
        role=cast(AdminRole, caller.role),
        admin=AdminReply.of(admin) if admin else None,
        session_id=caller.session_id,
    )


@router.put("/password", operation_id="change_password", summary="Change one's own password")
async def change_password(house: House, caller: Reader, origin: From, body: NewPassword) -> TokensReply:
    """All sessions end, this one too; the reply begins another."""
    admin = await house.admins.find(caller.admin_id) if caller.admin_id else None
    if admin is None:
        raise forbidden("The admin key is no account and has no password.")
    is_no_guess(body.password, admin.email)
    tried = Try(admin.email, *origin)
    await house.logins.finish(await _proven(house, tried, admin, body.current), "ok")
    digest = await house.passwords.hash(body.password.get_secret_value())
    await house.admins.change(admin.id, expected=None, by=caller.actor, action="admin.password", password_hash=digest)
    renewed = await house.sessions.begin(admin.id, digest, tried)
    if renewed is None:
        raise unauthenticated(_MEANWHILE)
    return _tokens(house, renewed)


@router.get("/logins", operation_id="list_logins", summary="The history of logins", **listed(LoginReply))
async def list_logins(house: House, caller: Reader, paging: Paging) -> Page[LoginReply] | Response:
    """Tries to log in to the caller's account, newest first; to the admin key everybody's."""
    return await paging.answer(
        "logins",
        lambda after, limit: house.logins.page(caller.admin_id, after=after, limit=limit),
        key=lambda login: (login.at, login.id),
        types=(datetime, UUID),
        shape=LoginReply.of,
        model=LoginReply,
    )


@router.get("/sessions", operation_id="list_sessions", summary="One's live sessions")
async def list_sessions(house: House, caller: Reader) -> SessionsReply:
    """The caller's sessions; the admin key has none."""
    live = await house.sessions.of(caller.admin_id) if caller.admin_id else []
    return SessionsReply(data=[_session(each, caller) for each in live])


@router.delete("/sessions/{session_id}", operation_id="end_session", summary="End a session", status_code=204)
async def end_session(house: House, caller: Reader, session_id: UUID) -> None:
    """End one of the caller's sessions: its tokens are good for nothing from this instant on."""
    if caller.admin_id is None or not await house.sessions.end(
        session_id, caller.admin_id, "ended by its owner", caller.actor
    ):
        raise not_found()


async def _proven(house: AdminHouse, tried: Try, admin: Admin | None, password: SecretStr) -> UUID:
    """The id of the try, which stands as wrong until it is finished. Raises Problem 401 and 429, PasswordsBusy.

    Nothing here tells an address that has no account from one that has: not the reply, and not the time it takes.
    """
    try:
        login_id = await house.logins.begin(tried, admin.id if admin else None)
    except LockedOut as locked:
        raise too_many("Too many wrong tries.", locked.wait_s) from None
    try:
        good = await house.passwords.matches(admin.password_hash if admin else None, password.get_secret_value())
    except PasswordsBusy:
        await house.logins.forget(login_id)
        raise
    if not good:
        raise unauthenticated("The e-mail address or the password is wrong.")
    return login_id


async def _with_present_hash(house: AdminHouse, admin: Admin, password: SecretStr) -> Admin:
    """The account, its password hashed as passwords are hashed today."""
    if not house.passwords.is_dated(admin.password_hash):
        return admin
    digest = await house.passwords.hash(password.get_secret_value())
    await house.admins.keep_hash(admin.id, admin.password_hash, digest)
    return msgspec.structs.replace(admin, password_hash=digest)


def _tokens(house: AdminHouse, renewed: Renewed) -> TokensReply:
    access = house.tokens.access(renewed.admin_id, renewed.role, renewed.session_id, house.now())
    return TokensReply(
        access_token=access,
        token_type="Bearer",
        expires_in=ACCESS_S,
        refresh_token=renewed.refresh_token,
        session_id=renewed.session_id,
        session_expires_at=renewed.expires_at,
    )


def _session(session: Session, caller: Caller) -> SessionReply:
    return SessionReply(current=session.id == caller.session_id, **session._asdict())
