"""`farebox connect openwebui`: makes an Open WebUI a client of this Farebox over its own admin API, and looks at it.

It may be run again and again: what is right already is left alone, and so are the operator's other connections. The
service key goes from here into the connection and is shown to nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from accounts.keys import FORWARD_USERS, Key
from config.settings import Settings
from farebox.connect_advice import Environment, environment
from farebox.connect_look import AREA, look_at_openwebui, look_at_version
from farebox.connect_probe import Arrival, arrival
from farebox.desk import Desk, DeskError, open_desk
from farebox.findings import Found
from ledger.audit import COMMAND_LINE
from openwebui import hook
from openwebui.client import OpenWebUI, OpenWebUIError, open_webui
from openwebui.connection import KEYS, URLS, Connection, connections_of, ours, with_ours, with_usage
from openwebui.mirror_sql import Mirror
from openwebui.service_key import proven_keys, serves

_OVERLAP = timedelta(hours=1)
_LATELY = timedelta(days=30)


class Wish(Struct, frozen=True):
    """What the operator asked for. ``farebox_url`` is where Open WebUI reaches the gateway, without ``/v1``."""

    url: str
    admin_key: str
    farebox_url: str
    realm: str
    plain_headers: bool = False
    new_key: bool = False
    webhook: bool = False
    dry_run: bool = False

    @property
    def service_url(self) -> str:
        return f"{self.farebox_url.rstrip('/')}/v1"


class Connected(Struct, frozen=True):
    """What was changed (in a dry run: would be), what was found, and what remains to be set by hand."""

    changes: list[str]
    found: list[Found]
    environment: Environment


async def connect(settings: Settings, wish: Wish) -> Connected:
    """Connect and look. Raises DeskError where there is no database to keep a key in."""
    if not wish.url or not wish.admin_key:
        raise DeskError("name the Open WebUI with --url and an administrator's API key there with --admin-key")
    async with open_desk(settings) as desk, open_webui(wish.url, wish.admin_key) as openwebui:
        return await _Connecting(settings, desk, openwebui, wish).run()


class _Connecting:
    def __init__(self, settings: Settings, desk: Desk, openwebui: OpenWebUI, wish: Wish) -> None:
        self._settings = settings
        self._desk = desk
        self._openwebui = openwebui
        self._wish = wish
        self._changes: list[str] = []
        self._found: list[Found] = []

    async def run(self) -> Connected:
        try:
            self._found.append(await look_at_version(self._openwebui))
        except OpenWebUIError as error:
            # Without an answer to this there is none to the rest.
            return Connected([], [Found(AREA, "reachable", "error", str(error))], Environment())
        connection = await self._attempt("connection", self._connection())
        await self._attempt("usage", self._usage())
        if self._wish.webhook:
            await self._attempt("webhook", self._webhook())
        chat = await Mirror(self._desk.engine, self._wish.realm).chats(datetime.now(UTC) - _LATELY)
        self._found += await look_at_openwebui(self._openwebui, connection, self._wish.service_url, people_chat=chat)
        arrived = await self._arrival(connection)
        self._found.append(arrived.found)
        told = environment(
            arrived,
            self._found,
            has_secret=self._settings.openwebui.jwt_secret is not None,
            syncs=self._settings.openwebui.syncs,
            url=self._wish.url,
        )
        return Connected(self._changes, self._found, told)

    async def _attempt(self, subject: str, step: Awaitable[Connection | None]) -> Connection | None:
        try:
            return await step
        except OpenWebUIError as error:
            self._found.append(Found(AREA, subject, "error", str(error)))
            return None

    async def _connection(self) -> Connection | None:
        """The connection as it is afterwards; in a dry run as it is."""
        document = await self._openwebui.connections()
        keys = await proven_keys(self._desk.accounts, [each.key for each in connections_of(document)])
        there = ours(document, self._wish.service_url, keys.__contains__)
        key = keys.get(there.key) if there else None
        if (
            there
            and key
            and not self._wish.new_key
            and serves(key, self._wish.realm, plain_headers=self._wish.plain_headers)
        ):
            return await self._set(document, there, there.key)
        if self._wish.dry_run:
            self._changes.append("a service key is made and put into the connection")
            self._changes += with_ours(document, there, self._wish.service_url, there.key if there else "").sentences
            return there
        return await self._with_another_key(document, there, key)

    async def _with_another_key(
        self, document: dict[str, Any], there: Connection | None, before: Key | None
    ) -> Connection | None:
        """The connection with another key. What cannot be put there is revoked again."""
        text, key = await self._another(before)
        try:
            connection = await self._set(document, there, text)
        except OpenWebUIError:
            await self._desk.accounts.revoke_key(key.id, by=COMMAND_LINE)
            if before is not None and key.rotated_from is not None:
                await self._desk.accounts.change_key(before.id, expires_at=before.expires_at, by=COMMAND_LINE)
            raise
        if before is not None and key.rotated_from is None:
            left = f"the key it had before ({before.prefix}) still works: farebox key revoke {before.prefix}"
            self._found.append(Found(AREA, "service key", "note", left))
        return connection

    async def _another(self, before: Key | None) -> tuple[str, Key]:
        """A key in the place of this one, or a first one."""
        accounts = self._desk.accounts
        if before and self._serves(before):
            rotated = await accounts.rotate_key(before.id, _OVERLAP, by=COMMAND_LINE)
            if rotated is not None:
                self._changes.append("the service key is rotated; the one before goes on for an hour")
                return rotated
        name = f"Open WebUI {urlsplit(self._wish.url).netloc}"[:200]
        made = await accounts.create_key(
            name=name,
            scopes=[FORWARD_USERS],
            realm=self._wish.realm,
            plain_headers=self._wish.plain_headers,
            by=COMMAND_LINE,
        )
        self._changes.append(f"the service key {name!r} is made")
        return made

    def _serves(self, key: Key) -> bool:
        return serves(key, self._wish.realm, plain_headers=self._wish.plain_headers)

    async def _set(self, document: dict[str, Any], there: Connection | None, key: str) -> Connection | None:
        """Put the connection as it should be, and read it back."""
        change = with_ours(document, there, self._wish.service_url, key)
        self._changes += change.sentences
        if self._wish.dry_run or not change.sentences:
            return there
        await self._openwebui.set_connections(change.document)
        after = await self._openwebui.connections()
        if (after.get(URLS), after.get(KEYS)) != (change.document[URLS], change.document[KEYS]):
            raise OpenWebUIError("Open WebUI took the connection and does not have it afterwards")
        return ours(after, self._wish.service_url)

    async def _usage(self) -> None:
        change = with_usage(await self._openwebui.model_defaults())
        self._changes += change.sentences
        if change.sentences and not self._wish.dry_run:
            await self._openwebui.set_model_defaults(change.document)

    async def _webhook(self) -> None:
        url = hook.hook_url(self._wish.farebox_url, self._desk.accounts.pepper)
        webhook_id, document = hook.wanted(await self._openwebui.webhooks(), url)
        if document is None:
            return
        self._changes.append("a webhook tells Farebox when people, groups or models change")
        if self._wish.dry_run:
            return
        if webhook_id is None:
            await self._openwebui.make_webhook(document)
        else:
            await self._openwebui.change_webhook(webhook_id, document)

    async def _arrival(self, connection: Connection | None) -> Arrival:
        """How users arrive at the running gateway, found out by having Open WebUI ask it."""
        if connection is None or connection.url.rstrip("/") != self._wish.service_url or not connection.key:
            return Arrival(Found(AREA, "users", "note", "how users arrive is seen once the connection is made"))
        signed = self._settings.openwebui.jwt_secret is not None
        return await arrival(self._openwebui, self._wish.service_url, connection.key, signed=signed)
