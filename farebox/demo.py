"""`farebox demo`: a whole Farebox on this machine with somebody to call it, shown step by step, then left running.

Assembles only: the backend, the people and the tour stand in files of their own. The engines are always the embedded
ones, in a folder below the data folder, so that a demo never touches what an operator's settings name.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from accounts.store_sql import Accounts
from config.catalog import Declared
from config.catalog_file import read_catalog
from config.settings import Settings, split_bind
from config.toml_file import CATALOG_KEYS, read_toml
from farebox import demo_backend
from farebox.demo_people import Guest, KeyRing, People, seat
from farebox.demo_stage import Stage
from farebox.demo_tour import MODEL, Tour, TourError
from farebox.serve import Running, StartError, pepper_of, running, signals
from ledger.store_sql import PostgresBank, make_engine
from ledger.verify import verify

_CATALOGUE = Path(__file__).with_name("demo.toml")
_DEFAULT_TIER = "basic"  # of users the service forwards: an Open WebUI put before the demo can chat at once
_UPGRADE_URL = "https://example.com/upgrade"
_FOLDERS_MAX = 20
_CALL_S = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True, slots=True)
class House:
    """A demo that runs: the Farebox, who may call it, its catalogue, and where it stands."""

    farebox: Running
    people: People
    declared: Declared
    folder: Path


async def demo(settings: Settings, *, once: bool) -> None:
    """The tour, then (unless ``once``) serve until SIGTERM or Ctrl-C, in the settings' data folder at their address.

    Raises demo_tour.TourError when a step did not do what it should, StartError and what ``serve.running`` raises when
    it cannot start.
    """
    stage = Stage(sys.stdout)
    term, hurry = asyncio.Event(), asyncio.Event()
    with signals(term, hurry), _own_folder(settings.data_dir) as folder:
        async with _house(_demo_settings(settings, folder, stage), stage) as house:
            toured = await _unless(term, _tour(house, stage))
            if toured and not once:
                _list(house, stage)
                await term.wait()
                stage.title("Stopping: running calls may end, and everything is posted.")
            await house.farebox.gateway.drain(settings.drain_timeout_s, hurry)
    if not toured:
        raise TourError("it was stopped before its end")


async def _tour(house: House, stage: Stage) -> None:
    try:
        async with aiohttp.ClientSession(timeout=_CALL_S) as http:
            await _calls(Tour(http, house.farebox.url, house.declared, stage), house.people, stage)
    except aiohttp.ClientError as error:
        raise TourError(f"a call over HTTP failed: {error!r}") from error
    stage.title("4. The ledger, recomputed from its first posting")
    await _verified(house, stage)


async def _calls(tour: Tour, people: People, stage: Stage) -> None:
    paula, tess, fay = (people.guests[tier] for tier in ("pro", "tester", "free"))
    stage.title(f"1. A streamed chat: {paula.name}, tier pro, prepaid")
    await tour.chat(paula)
    stage.title(f"2. Too fast: {tess.name}, tier tester, 3 requests per minute")
    await tour.too_fast(tess)
    stage.title(f"3. No money: {fay.name}, tier free")
    await tour.too_poor(fay)


async def _verified(house: House, stage: Stage) -> None:
    await house.farebox.gateway.flush(10)
    engine = make_engine(house.farebox.urls.database, size=1, command_timeout_s=60, name="farebox demo")
    try:
        findings = await verify(engine)
    finally:
        await engine.dispose()
    broken = [finding.line() for finding in findings if not finding.holds]
    if broken:
        raise TourError("the ledger does not hold: " + "; ".join(broken))
    charges = max((finding.looked_at for finding in findings if finding.name == "I6"), default=0)
    stage.line(f"verify: ok, all {len(findings)} invariants hold; {charges} charges recomputed to the nano-USD")


def _list(house: House, stage: Stage) -> None:
    """What somebody needs to go on by hand."""
    url, people = house.farebox.url, house.people
    stage.title(f"Farebox serves at {url}/v1 until Ctrl-C")
    for guest in people.guests.values():
        stage.line(f"{guest.tier:8} {guest.name:6} {guest.key}")
    stage.line(f"{'service':8} {'':6} {people.service_key}")
    stage.aside("The service key is for Open WebUI: it names its users in headers, each becomes a user of tier basic.")
    stage.title("Try it")
    for line in _curl(url, people.guests["basic"]):
        stage.line(line)
    stage.title("Look at it")
    stage.line(f"{house.farebox.admin_url}/docs, the admin API, with the key {_admin_key(house)},")
    stage.line(f"{url}/metrics, one line a call in {house.folder / 'calls.log'}, and")
    called = Path(sys.argv[0])
    stage.line(f"FAREBOX_DATA_DIR={house.folder} {called if called.name == 'farebox' else 'farebox'} verify")


def _admin_key(house: House) -> str:
    secret = house.farebox.admin_key.secret
    return secret.get_secret_value() if secret else ""


def _curl(url: str, guest: Guest) -> list[str]:
    return [
        f"curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {guest.key}' \\",
        "  -H 'Content-Type: application/json' \\",
        f'  -d \'{{"model":"{MODEL}","stream":true,"messages":[{{"role":"user","content":"What is a tier?"}}]}}\'',
    ]


@asynccontextmanager
async def _house(settings: Settings, stage: Stage) -> AsyncIterator[House]:
    stage.title("Farebox demo")
    stage.line(f"Starting a real Postgres and a real Valkey in {settings.data_dir} ...")
    backend = await demo_backend.start()
    try:
        declared = _catalogue(backend.url)
        with (settings.data_dir / "calls.log").open("wb") as calls:
            async with running(settings, declared, calls=calls) as farebox:
                people = await _seated(settings, farebox)
                stage.line(f"The gateway serves at {farebox.url}/v1, the demo backend at {backend.url}.")
                yield House(farebox, people, declared, settings.data_dir)
    finally:
        await backend.stop()


async def _seated(settings: Settings, farebox: Running) -> People:
    engine = make_engine(farebox.urls.database, size=1, name="farebox demo")
    try:
        pepper = pepper_of(settings).get_secret_value().encode()
        accounts = Accounts(engine, pepper=pepper, default_tier=settings.default_tier)
        ring = KeyRing(settings.data_dir / "demo-keys.json")
        return await seat(accounts, PostgresBank(engine, owner="demo"), ring)
    finally:
        await engine.dispose()


def _catalogue(backend_url: str) -> Declared:
    tables = {name: table for name, table in read_toml(_CATALOGUE).items() if name in CATALOG_KEYS}
    tables["upstreams"][0]["base_url"] = backend_url
    return read_catalog(tables, default_tier=_DEFAULT_TIER)


def _demo_settings(settings: Settings, folder: Path, stage: Stage) -> Settings:
    """The settings with the demo's own engines, secrets and tiers in place of what they name."""
    own = {
        "data_dir": folder,
        "bind": _bind(settings, stage),
        "admin_bind": None,
        "admin_key": None,
        "database_url": None,
        "redis_url": None,
        "key_pepper": None,
        "default_tier": _DEFAULT_TIER,
        "upgrade_url": _UPGRADE_URL,
        "issuers": (),
    }
    return settings.model_copy(update=own)


def _bind(settings: Settings, stage: Stage) -> str:
    """The address that was set; where none was and the usual one is taken, any free port of the same host."""
    if "bind" in settings.model_fields_set:
        return settings.bind
    host, port = split_bind(settings.bind)
    try:
        socket.create_server((host, port)).close()
    except OSError:
        stage.line(f"Port {port} is in use, so a free one is taken (FAREBOX_BIND chooses).")
        return f"{host}:0"
    return settings.bind


@contextlib.contextmanager
def _own_folder(data_dir: Path) -> Iterator[Path]:
    """A folder below the data folder, ours alone while the block lasts: ``demo``, or for a second demo beside it
    ``demo-2``. Each has its own backend, and two in one database would take turns in naming theirs.
    """
    for number in range(1, _FOLDERS_MAX + 1):
        folder = data_dir / ("demo" if number == 1 else f"demo-{number}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            yield folder
        finally:
            os.close(lock)
        return
    raise StartError(f"{_FOLDERS_MAX} demos run in {data_dir} already")


async def _unless(term: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, but drop it when somebody asks to end; whether it was done."""
    doing, asked = asyncio.create_task(work), asyncio.create_task(term.wait())
    try:
        await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
            return True
        return False
    finally:
        asked.cancel()
        doing.cancel()
        await asyncio.gather(asked, doing, return_exceptions=True)
