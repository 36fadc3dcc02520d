"""Assembles a running Farebox: engines, schema, gateway, sockets; and takes it apart again without losing a charge.

Signals are ours, not the server's: SIGTERM (or Ctrl-C) takes no new calls, lets running ones end, settles and posts
everything, then stops; a second one stops waiting for the callers, never for the money.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import uvicorn
from pydantic import SecretStr

from admin_api.app import open_admin
from admin_api.door import PREFIX as ADMIN_PREFIX
from config.catalog import Declared
from config.secrets_file import ensure_secret
from config.settings import Settings, split_bind
from farebox.check_redis import look_at_redis
from farebox.connection import Connection
from farebox.engines import Engines
from farebox.memory import settle
from farebox.schema import bring_up
from gateway.app import Gateway, open_gateway
from gateway.downstream import Endpoint, Receive, Scope, Send
from openwebui.hook import PREFIX as HOOK_PREFIX
from openwebui.hook import Hook
from openwebui.opening import open_sync
from openwebui.sync import Sync
from openwebui.syncer import Syncer

_log = logging.getLogger("farebox")
_BACKLOG = 4096
# Above the 15 s after which Open WebUI's client drops an idle connection: the side that asks closes first.
_KEEP_ALIVE_S = 75
_CLOSE_S = 5
_FILES_MAX = 65_536


class StartError(Exception):
    """Farebox cannot start; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the engines are."""

    database: str
    redis: str


class Listeners(NamedTuple):
    """The sockets callers connect to; those of metrics and admin API only where they have an address of their own."""

    front: socket.socket
    metrics: socket.socket | None = None
    admin: socket.socket | None = None


class AdminKey(NamedTuple):
    """The bearer that may do everything. ``made``: it was made just now, and somebody has to be told."""

    secret: SecretStr | None
    made: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A Farebox that serves. ``url`` is the gateway's address, ``metrics_url`` where Prometheus looks, ``admin_url``
    where the admin API is."""

    url: str
    metrics_url: str
    admin_url: str
    admin_key: AdminKey
    gateway: Gateway
    urls: Urls


@asynccontextmanager
async def engines(settings: Settings) -> AsyncIterator[Urls]:
    """The engines the settings name; embedded ones for those they do not. Raises engines.EnginesError."""
    database, redis = settings.database_url, settings.redis_url
    embedded = None
    if database is None or redis is None:
        embedded = await asyncio.to_thread(
            Engines.start, settings.data_dir, postgres=database is None, redis=redis is None
        )
    try:
        yield Urls(
            database.get_secret_value() if database else embedded.database_url if embedded else "",
            redis.get_secret_value() if redis else embedded.redis_url if embedded else "",
        )
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)


def allow_many_sockets() -> None:
    """Raise this process's own bound on open files as far as it may: a call takes two sockets, and the usual bound of
    1 024 would refuse callers long before ``limits.streams_max`` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pepper_of(settings: Settings) -> SecretStr:
    """The secret under which key digests are made: the setting, else one made once in the data folder."""
    return settings.key_pepper or ensure_secret(settings.data_dir / "key_pepper")


def admin_key_of(settings: Settings) -> AdminKey:
    """The admin key: the setting, else one made once in the data folder of an embedded database. A database of
    production has admins' accounts; a key that nobody asked for would be a second door to it."""
    if settings.admin_key is not None or settings.database_url is not None:
        return AdminKey(settings.admin_key)
    path = settings.data_dir / "admin_key"
    there = path.exists()
    return AdminKey(ensure_secret(path), made=not there)


def forked(gateway: Endpoint, beside: Mapping[str, Endpoint]) -> Endpoint:
    """The gateway, and what is beside it on its port, by the beginnings of their paths. Not a coroutine of its own: a
    call pays one comparison for it, and no further frame."""
    prefixes = tuple(beside)

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path.startswith(prefixes):
            return next(there for prefix, there in beside.items() if path.startswith(prefix))(scope, receive, send)
        return gateway(scope, receive, send)

    return app


@asynccontextmanager
async def running(
    settings: Settings, declared: Declared, *, calls: BinaryIO | None = None, listeners: Listeners | None = None
) -> AsyncIterator[Running]:
    """A Farebox on its sockets, until the block ends; then it is drained with no patience left for callers.

    ``calls`` takes the line of each call (None: standard output); ``listeners`` are sockets somebody else has opened.
    """
    allow_many_sockets()
    async with AsyncExitStack() as stack:
        front, metrics_socket, admin_socket = listeners or stack.enter_context(listening(settings))
        urls = await stack.enter_async_context(engines(settings))
        await bring_up(urls.database)
        pepper, admin_key = pepper_of(settings), admin_key_of(settings)
        gateway = await stack.enter_async_context(
            open_gateway(
                settings,
                database_url=urls.database,
                redis_url=urls.redis,
                pepper=pepper,
                declared=declared,
                calls=calls,
            )
        )
        sync = await stack.enter_async_context(open_sync(settings, urls.database, pepper.get_secret_value().encode()))
        admin = await stack.enter_async_context(_administered(settings, urls, gateway, pepper, admin_key, sync))
        beside = {} if admin_socket is not None else {f"{ADMIN_PREFIX}/": admin}
        if sync is not None:
            syncer = Syncer(sync.run, every_s=settings.openwebui.sync_every_s, lately=sync.lately)
            beside[HOOK_PREFIX] = Hook(pepper.get_secret_value().encode(), syncer.nudge)
            stack.push_async_callback(syncer.aclose)
            syncer.start()
        front_app = forked(gateway.app, beside) if beside else gateway.app
        await stack.enter_async_context(_served(front_app, front))
        if admin_socket is not None:
            await stack.enter_async_context(_served(admin, admin_socket))
        if metrics_socket is not None:
            await stack.enter_async_context(_served(gateway.metrics_app, metrics_socket))
        # Waited for, not cancelled: its few questions have their own bound, and a connection half made is lost.
        stack.push_async_callback(asyncio.wait, {asyncio.create_task(_warn_of_redis(urls.redis, settings))})
        url, metrics_url, admin_url = addresses(Listeners(front, metrics_socket, admin_socket))
        yield Running(url, metrics_url, admin_url, admin_key, gateway, urls)
        await gateway.drain(0)


def _administered(
    settings: Settings, urls: Urls, gateway: Gateway, pepper: SecretStr, admin_key: AdminKey, sync: Sync | None
) -> AbstractAsyncContextManager[Endpoint]:
    """The admin API, with what it shares with the gateway."""
    parts = gateway.parts
    return open_admin(
        settings,
        database_url=urls.database,
        accounts=parts.accounts,
        bank=parts.bank,
        buckets=parts.buckets,
        catalog=parts.catalog,
        explain=parts.explainer.explain,
        pepper=pepper.get_secret_value().encode(),
        admin_key=admin_key.secret.get_secret_value() if admin_key.secret else None,
        sync=sync,
    )


async def serve(settings: Settings, declared: Declared) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError and what ``running`` raises when it cannot start."""
    term, hurry = asyncio.Event(), asyncio.Event()
    with signals(term, hurry):
        async with running(settings, declared) as farebox:
            settle()
            announce(farebox.url, farebox.metrics_url, farebox.admin_url, farebox.admin_key, settings)
            await term.wait()
            await drained(farebox.gateway, settings, hurry)


async def _warn_of_redis(url: str, settings: Settings) -> None:
    """What keeps limits from being kept is told at the start; it is no reason not to serve."""
    for found in await look_at_redis(url, settings):
        if found.verdict in ("error", "warning"):
            _log.warning("redis not as it should be", extra={"subject": found.subject, "says": found.says})


def announce(url: str, metrics_url: str, admin_url: str, admin_key: AdminKey, settings: Settings) -> None:
    """Tell the operator where everything is."""
    _log.info("serving", extra={"url": url, "metrics": metrics_url})
    print(f"Farebox serves at {url}/v1 (metrics at {metrics_url})", flush=True)
    print(admin_sentence(admin_url, admin_key, settings), flush=True)


async def drained(gateway: Gateway, settings: Settings, hurry: asyncio.Event) -> None:
    """Let running calls end, and post everything."""
    _log.info("draining", extra={"timeout_s": settings.drain_timeout_s})
    done = await gateway.drain(settings.drain_timeout_s, hurry)
    _log.info("drained", extra={"everything_posted": done})


def admin_sentence(url: str, key: AdminKey, settings: Settings) -> str:
    """Where the admin API is and who gets in; the key is said once, when it was made."""
    where = f"The admin API is at {url}/v1 (to read and try: {url}/docs)."
    if key.secret is None:
        return f"{where} FAREBOX_ADMIN_KEY is not set: only admins who have an account get in."
    if key.made:
        place = settings.data_dir / "admin_key"
        return f"{where} Its key, shown this once and kept in {place}: {key.secret.get_secret_value()}"
    return where


@contextlib.contextmanager
def signals(term: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """While the block lasts, SIGTERM or Ctrl-C sets ``term``, and the next one ``hurry``."""
    loop = asyncio.get_running_loop()

    def ask() -> None:
        (hurry if term.is_set() else term).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[Listeners]:
    """The sockets of these settings. Raises StartError."""
    with contextlib.ExitStack() as stack:
        binds = settings.bind, settings.metrics_bind, settings.admin_bind
        front, metrics, admin = (stack.enter_context(_listening(bind)) if bind else None for bind in binds)
        assert front is not None  # it has a default
        yield Listeners(front, metrics, admin)


def addresses(listeners: Listeners) -> tuple[str, str, str]:
    """The gateway's address, where Prometheus looks, and where the admin API is."""
    front, metrics, admin = listeners
    return _url(front), f"{_url(metrics or front)}/metrics", f"{_url(admin or front)}{ADMIN_PREFIX}"


@contextlib.contextmanager
def _listening(bind: str) -> Iterator[socket.socket]:
    host, port = split_bind(bind)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(f"cannot listen on {bind}: {error.strerror}") from error
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: who drains what in which order is decided above."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _served(app: Endpoint, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
        backlog=_BACKLOG,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise StartError("the HTTP server ended while it was starting")
            await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task
