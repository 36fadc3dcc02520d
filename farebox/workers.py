"""Several processes on one machine: ``farebox serve --workers N``.

This process opens the sockets, runs the embedded engines where there are some, and starts the workers; it serves
nothing itself. Each worker is a whole replica on the same sockets: event loop, pools, spool and share of the limits of
its own. One that ends without being asked is replaced. When this process is gone, however, its workers drain and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

from prometheus_client.multiprocess import mark_process_dead

from config.catalog import Declared
from config.settings import PREFIX, Settings
from farebox.memory import settle
from farebox.schema import bring_up
from farebox.serve import (
    Listeners,
    StartError,
    addresses,
    admin_key_of,
    announce,
    drained,
    engines,
    listening,
    pepper_of,
    running,
    signals,
)
from gateway.metrics import FOLDER_ENV, Metrics

_log = logging.getLogger("farebox")
_READY = b"ready\n"
_REFRESH_S = 1.0
_START_S = 60.0
_POSTING_S = 60.0  # what a worker may take beyond the drain to post everything
_PAUSE_S, _PAUSE_MAX_S = 0.5, 30.0
_STEADY_S = 60.0


class Worker(NamedTuple):
    """One of them, and the line to it: it says there that it serves, and hears by its end that we are gone."""

    process: Process
    line: socket.socket


class Team:
    """The workers. ``environment`` is what they start with."""

    def __init__(self, listeners: Listeners, environment: Mapping[str, str], patience_s: float) -> None:
        self._listeners = listeners
        self._environment = environment
        self._patience_s = patience_s
        self._workers: dict[int, Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, count: int) -> None:
        """Start so many, and return when all of them serve. Raises StartError."""
        first = await asyncio.gather(*(self._begin() for _ in range(count)), return_exceptions=True)
        begun = [worker for worker in first if isinstance(worker, Worker)]
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in begun]
        for failure in first:
            if isinstance(failure, BaseException):
                await self.stop(asyncio.Event())
                raise failure

    async def stop(self, hurry: asyncio.Event) -> None:
        """Drain all of them; ``hurry`` is passed on. One that does not end in time is killed: what it had not posted
        is found in its spool, and by the reaper."""
        self._stopping = True
        self._tell(signal.SIGTERM)
        hurrying = asyncio.create_task(self._pass_on(hurry))
        _, late = await asyncio.wait(self._keepers, timeout=self._patience_s) if self._keepers else ((), ())
        if late:
            _log.error("workers killed", extra={"workers": len(late)})
            self._tell(signal.SIGKILL)
            await asyncio.wait(late)
        hurrying.cancel()

    async def _pass_on(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _keep(self, worker: Worker) -> None:
        """Replace the worker whenever it ends, until all are to stop."""
        pause, clock = _PAUSE_S, asyncio.get_running_loop().time
        while True:
            since = clock()
            await self._ended(worker)
            while not self._stopping:
                if clock() - since > _STEADY_S:
                    pause = _PAUSE_S
                await asyncio.sleep(pause)
                pause, since = min(pause * 2, _PAUSE_MAX_S), clock()
                with contextlib.suppress(StartError):
                    worker = await self._begin()
                    break
            else:
                return

    async def _begin(self) -> Worker:
        """A worker that serves. Raises StartError when it ended before it did."""
        ours, theirs = socket.socketpair()
        with theirs:
            fds = [each.fileno() if each else -1 for each in self._listeners]
            words = ["worker", "--listeners", ",".join(map(str, fds)), "--line", str(theirs.fileno())]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "farebox", *words),
                env=self._environment,
                pass_fds=[fd for fd in (*fds, theirs.fileno()) if fd >= 0],
                start_new_session=True,  # Ctrl-C is for this process, which passes it on once
            )
        worker = self._workers[process.pid] = Worker(process, ours)
        if self._stopping:
            process.terminate()
        if not await _says_ready(ours):
            await self._ended(worker)
            raise StartError("a worker ended before it served; its reason is above")
        return worker

    async def _ended(self, worker: Worker) -> None:
        pid = worker.process.pid
        code = await worker.process.wait()
        worker.line.close()
        self._workers.pop(pid, None)
        mark_process_dead(pid, self._environment[FOLDER_ENV])  # type: ignore[no-untyped-call]
        if not self._stopping:
            _log.error("worker ended", extra={"pid": pid, "code": code})


async def serve_workers(settings: Settings, count: int) -> None:
    """Run ``count`` workers until SIGTERM or SIGINT. Raises StartError and what keeps the engines from starting."""
    term, hurry = asyncio.Event(), asyncio.Event()
    with signals(term, hurry):
        async with AsyncExitStack() as stack:
            listeners = stack.enter_context(listening(settings))
            urls = await stack.enter_async_context(engines(settings))
            await bring_up(urls.database)
            admin_key = admin_key_of(settings)
            made = {
                "DATABASE_URL": urls.database,
                "REDIS_URL": urls.redis,
                "KEY_PEPPER": pepper_of(settings).get_secret_value(),
                "ADMIN_KEY": admin_key.secret.get_secret_value() if admin_key.secret else "",
            }
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-metrics-"))
            environment = {**os.environ, **{f"{PREFIX}{name}": value for name, value in made.items()}}
            environment[FOLDER_ENV] = folder
            team = Team(listeners, environment, settings.drain_timeout_s + _POSTING_S)
            await team.start(count)
            announce(*addresses(listeners), admin_key, settings)
            await term.wait()
            await team.stop(hurry)


async def work(settings: Settings, declared: Declared, fds: Sequence[int], line_fd: int) -> None:
    """One worker, on sockets that it inherited: the front's, those of metrics and admin API or -1, and the line."""
    term, hurry = asyncio.Event(), asyncio.Event()
    with signals(term, hurry), socket.socket(fileno=line_fd) as line:
        front, metrics, admin = (socket.socket(fileno=fd) if fd >= 0 else None for fd in fds)
        assert front is not None
        async with running(settings, declared, listeners=Listeners(front, metrics, admin)) as farebox:
            settle()
            line.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(line, _READY)
            with _beside(_until_let_go(line, term), _refreshing(farebox.gateway.metrics)):
                await term.wait()
                await drained(farebox.gateway, settings, hurry)


@contextlib.contextmanager
def _beside(*coroutines: object) -> Iterator[None]:
    tasks = [asyncio.ensure_future(each) for each in coroutines]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _says_ready(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        async with asyncio.timeout(_START_S):
            return await asyncio.get_running_loop().sock_recv(line, len(_READY)) == _READY
    except (TimeoutError, OSError):
        return False


async def _until_let_go(line: socket.socket, term: asyncio.Event) -> None:
    """The other end of the line closes with the process that holds it."""
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_recv(line, 1)
    term.set()


async def _refreshing(metrics: Metrics) -> None:
    """Whoever is asked shows everybody's gauges, so each keeps its own fresh."""
    while True:
        metrics.refresh()
        await asyncio.sleep(_REFRESH_S)
