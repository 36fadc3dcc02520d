"""The composition root of the data plane: settings in, ASGI application out.

``open_gateway`` opens every resource and closes them in the reverse order; nothing else in this room makes one. It runs
beside the server, not inside its lifespan: a server may end its lifespan before the streams it cut have been settled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from accounts.directory import Directory
from accounts.due_tiers import DueTiers
from accounts.store_sql import Accounts
from config.catalog import Catalog, Declared
from config.catalog_sql import seed
from config.keeper import CatalogKeeper
from config.parts import OpenWebUI
from config.settings import Settings
from config.watch import Watcher
from gateway.account import Account
from gateway.admission import Admitter
from gateway.books import Books
from gateway.calllog import CallLog
from gateway.cors import with_cors
from gateway.counting import Counting
from gateway.downstream import Endpoint, Receive, Scope, Send
from gateway.explain import Explainer
from gateway.forward import Forwarder
from gateway.identity import Identity
from gateway.issuers import Issuers
from gateway.links import Links
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.notices import Notices
from gateway.own import Own, own_routes
from gateway.pages import AccountPage, Pricing, page_routes
from gateway.phase import Stop
from gateway.proxy import Gate, Proxy
from gateway.pulse import Pulse
from gateway.pump import House
from gateway.routes import Health, metrics_routes, routes
from gateway.standings import Standings
from gateway.surfaces import SURFACES
from gateway.tally import Tally
from gateway.tokens import Tokenizers, encoding_for
from gateway.upload import Uploads
from gateway.upstream import Upstreams
from gateway.voice import Voice
from ledger.money import NANO, parse_usd
from ledger.poster import Poster
from ledger.roller import rolling
from ledger.spool import Spool
from ledger.store import BankUnavailable
from ledger.store_sql import PostgresBank, make_engine
from ledger.sweep import Sweeper
from ledger.teller import Teller
from ledger.turns import Turns
from policies.buckets import Buckets
from policies.buckets_fallback import BucketsWithFallback
from policies.buckets_memory import BucketsMemory
from policies.buckets_queue import BucketsQueue
from policies.buckets_redis import BucketsRedis, connect
from policies.estimate import RunningP90, RunningRatio
from policies.told_redis import ToldRedis

_log = logging.getLogger("farebox.gateway")
_ACCOUNTS_POOL = 4
_READING_POOL = 2
_READING_S = 5.0
_FLUSH_S = 20.0
_AGAIN_S = 0.1
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a neighbour of the data plane may work with."""

    accounts: Accounts
    bank: PostgresBank
    buckets: Buckets
    catalog: Callable[[], Catalog]
    explainer: Explainer


class Gateway:
    """The running data plane. ``app`` is its ASGI application, ``metrics_app`` the one for a port of its own."""

    def __init__(
        self,
        app: Endpoint,
        metrics_app: Endpoint,
        metrics: Metrics,
        gate: Gate,
        pulse: Pulse,
        poster: Poster,
        parts: Parts,
        queue: BucketsQueue | None = None,
    ) -> None:
        self.app = app
        self.metrics_app = metrics_app
        self.metrics = metrics
        self.parts = parts
        self._gate = gate
        self._pulse = pulse
        self._poster = poster
        self._queue = queue

    @property
    def running(self) -> int:
        """Calls under way, to their last lines."""
        return len(self._pulse.pumps)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until what was handed over is committed; False if the time was too short."""
        return await self._poster.flush(timeout_s)

    async def drain(self, timeout_s: float, hurry: asyncio.Event | None = None) -> bool:
        """Take no new calls, let running ones go on for ``timeout_s`` (or until ``hurry`` is set), end the rest with an
        error event, and post everything. True if all of it is committed; what is not is on disk."""
        # Drained a second time, there is nothing new to wait for: a bank that is away was waited for once.
        flush_s = _AGAIN_S if self._gate.draining else _FLUSH_S
        self._gate.draining = True
        if self._queue is not None:
            self._queue.close()
        deadline = time.monotonic() + timeout_s
        # Polled, because it happens once in a process's life: an event would have to be kept by every call.
        while self._pulse.pumps and time.monotonic() < deadline and not (hurry and hurry.is_set()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for pump in tuple(self._pulse.pumps):
            pump.stop(Stop.DRAINED)
        deadline = time.monotonic() + _FLUSH_S
        while self._pulse.pumps and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return await self._poster.flush(flush_s)


class Front:
    """Metered routes go straight to their endpoints; everything else through Starlette's router."""

    def __init__(self, metered: dict[str, Endpoint], rest: Starlette) -> None:
        self._metered = metered
        self._rest = rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine of its own: a call pays two look-ups for it, and no further frame.
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._metered.get(scope["path"])
            if endpoint is not None:
                return endpoint(scope, receive, send)
        return self._rest(scope, receive, send)


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    *,
    database_url: str,
    redis_url: str,
    pepper: SecretStr,
    declared: Declared,
    calls: BinaryIO | None = None,
) -> AsyncIterator[Gateway]:
    """The data plane on these engines, with a migrated schema; ``calls`` takes the line of each call (None: standard
    output). Raises what keeps it from starting: PepperMismatch, CatalogError, VocabularyError, BankUnavailable,
    TimeoutError."""
    async with AsyncExitStack() as stack:
        limits, bank_part = settings.limits, settings.bank
        metrics = Metrics()
        stack.callback(metrics.count_up)  # also where the log's thread is stuck at its end
        log = CallLog(calls, metrics.count_up, metrics.call_lines_dropped.inc)
        log.start()
        stack.callback(log.stop)
        uploads = Uploads(settings.data_dir / "uploads", limits)
        stack.push_async_callback(uploads.aclose)
        tokenizers = await asyncio.to_thread(Tokenizers.load, Path(settings.data_dir))

        accounts_engine = make_engine(database_url, size=_ACCOUNTS_POOL, name="farebox accounts", ask_first=True)
        stack.push_async_callback(accounts_engine.dispose)
        bank_engine = make_engine(
            database_url, size=bank_part.pool_size, command_timeout_s=bank_part.statement_timeout_s, name="farebox bank"
        )
        stack.push_async_callback(bank_engine.dispose)

        accounts = Accounts(
            accounts_engine,
            pepper=pepper.get_secret_value().encode(),
            default_tier=settings.default_tier,
            default_language=settings.default_language,
        )
        await accounts.check_pepper()
        await seed(accounts_engine, declared)
        due_tiers = DueTiers(accounts)
        await due_tiers.start()
        stack.push_async_callback(due_tiers.aclose)
        directory = Directory(accounts, keys_max=limits.keys_cached, users_max=limits.users_cached)
        await directory.start()
        stack.push_async_callback(directory.aclose)
        keeper = CatalogKeeper(accounts_engine)
        await keeper.start()
        stack.push_async_callback(keeper.aclose)
        needed = {encoding_for(each.upstream_model, each.tokenizer) for each in keeper.current.models.values()}
        await asyncio.to_thread(tokenizers.prepare, needed)
        watcher = Watcher(database_url, [keeper, directory])
        stack.push_async_callback(watcher.aclose)
        async with asyncio.timeout(_START_S):
            await watcher.start()

        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        bank, sweeper = await _open_bank(stack, bank_engine, settings, owner)
        turns = Turns()
        poster = Poster(bank, Spool(settings.data_dir / "spool", owner), batch=bank_part.post_batch_max, turns=turns)
        poster.start()
        stack.push_async_callback(poster.stop)
        teller = Teller(
            bank,
            regret=poster.submit,
            turns=turns,
            lanes=bank_part.hold_lanes,
            batch=bank_part.hold_batch_max,
            waiting=bank_part.hold_queue_max,
        )

        tally = Tally(accounts_engine)
        tally.start()
        stack.push_async_callback(tally.stop)
        await stack.enter_async_context(rolling(database_url))

        redis = settings.redis
        client = connect(redis_url, redis.cluster, redis.connect_timeout_s, redis.timeout_s)
        counted = BucketsWithFallback(
            BucketsRedis(client),
            BucketsMemory(),
            redis.on_failure,
            lambda: sweeper.live_replicas,
            lost=metrics.corrections_lost.inc,
        )
        buckets = BucketsQueue(counted, waiting_max=limits.queue_max, line_max=limits.queue_user_max)
        stack.push_async_callback(buckets.aclose)
        upstreams = Upstreams()
        stack.push_async_callback(upstreams.aclose)

        def catalog() -> Catalog:
            return keeper.current

        links = Links(pepper.get_secret_value().encode(), settings.public_url, settings.link_s)
        voice = Voice(catalog, settings.default_language, links)
        output_seen, input_seen = RunningP90(), RunningRatio()
        counting = Counting(tokenizers)
        admitter = Admitter(
            catalog=catalog,
            buckets=buckets,
            teller=teller,
            bank=bank,
            counting=counting,
            output_seen=output_seen,
            input_seen=input_seen,
            default_tier=settings.default_tier,
            upgrade_url=settings.upgrade_url,
            queue_s=limits.queue_s,
        )
        pulse = Pulse(
            bank,
            buckets,
            beat_s=bank_part.beat_s,
            send_timeout_s=limits.send_timeout_s,
            drain_stream_s=limits.drain_stream_s,
        )
        pulse.start()
        stack.push_async_callback(pulse.stop)
        house = House(
            admitter,
            Forwarder(upstreams, catalog, settings.timeouts, limits),
            counting,
            teller,
            Books(poster, buckets, metrics, log, tally, output_seen, input_seen),
            pulse,
            bank_part.beat_tokens,
            voice,
            _notices(settings.openwebui, bank, voice, ToldRedis(client)),
        )
        standings = Standings(accounts, catalog, settings.default_tier)
        identity = Identity(
            directory,
            Issuers(settings.issuers),
            standings.of,
            settings.openwebui.jwt_secret,
            catalog,
            met_max=limits.keys_cached,
        )
        gate = Gate(limits.streams_max, pulse.pumps.__len__)
        metered: dict[str, Endpoint] = {
            f"/v1{surface.path}": Proxy(surface, house, identity, gate, catalog, limits, uploads)
            for surface in SURFACES
        }
        account = Account(identity, admitter, catalog, bank, buckets, links)
        reading = make_engine(
            database_url, size=_READING_POOL, command_timeout_s=_READING_S, name="farebox reading", for_reports=True
        )
        stack.push_async_callback(reading.dispose)
        own = Own(identity, reading, lambda: datetime.now(UTC))
        account_page = AccountPage(
            links=links,
            directory=directory,
            standing_of=standings.of,
            account=account,
            catalog=catalog,
            engine=accounts_engine,
            voice=voice,
        )
        health = Health(lambda: not gate.draining, bank, buckets if redis.on_failure == "refuse" else None)
        rest = routes(
            metered,
            models=Models(identity, admitter, catalog, voice.language(), settings.upgrade_url),
            account=account,
            health=health,
            metrics=metrics if settings.metrics_bind is None else None,
            pages=[*page_routes(Pricing(catalog, voice), account_page), *own_routes(own)],
            voice=voice,
        )
        _watch(metrics, pulse, poster, counted, buckets, sweeper, uploads)
        explainer = Explainer(
            catalog=catalog, admitter=admitter, bank=bank, buckets=buckets, default_tier=settings.default_tier
        )
        parts = Parts(accounts, bank, buckets, catalog, explainer)
        front = with_cors(Front(metered, rest), settings.cors_origins)
        yield Gateway(front, metrics_routes(metrics), metrics, gate, pulse, poster, parts, buckets)


async def _open_bank(
    stack: AsyncExitStack, engine: AsyncEngine, settings: Settings, owner: str
) -> tuple[PostgresBank, Sweeper]:
    """The bank, and the sweeper that has signed this process in."""
    horizon_s = settings.timeouts.total_s + settings.bank.hold_ttl_s
    bank = PostgresBank(engine, owner=owner, ttl_s=settings.bank.hold_ttl_s, horizon_s=horizon_s)
    await bank.make_months()
    sweeper = Sweeper(bank)
    await sweeper.round()
    sweeper.start()
    stack.push_async_callback(_sign_out, bank)
    stack.push_async_callback(sweeper.stop)
    return bank, sweeper


async def _sign_out(bank: PostgresBank) -> None:
    """While the bank is away nobody can be told; it will notice by itself, and an end stays an end in good order."""
    try:
        await bank.sign_out()
    except BankUnavailable as away:
        _log.warning("not signed out", extra={"reason": str(away)})


def _notices(part: OpenWebUI, bank: PostgresBank, voice: Voice, told: ToldRedis) -> Notices | None:
    if part.notices == "off":
        return None
    return Notices(part.notices, bank, voice, told, parse_usd(part.low_balance_usd))


def _watch(
    metrics: Metrics,
    pulse: Pulse,
    poster: Poster,
    buckets: BucketsWithFallback,
    queue: BucketsQueue,
    sweeper: Sweeper,
    uploads: Uploads,
) -> None:
    """The gauges are read when somebody looks, not kept."""

    def refresh() -> None:
        metrics.streams_open.set(len(pulse.pumps))
        metrics.holds_open.set(sum(1 for pump in pulse.pumps if pump.admission is not None))
        metrics.holds_usd.set(sum(pump.held for pump in pulse.pumps) / NANO)
        metrics.posting_lag.set(poster.lag_s)
        metrics.spool_events.set(poster.spooled)
        metrics.refused_settlements.set(poster.refused)
        metrics.limiter_degraded.set(buckets.degraded)
        metrics.calls_waiting.set(queue.waiting)
        metrics.ledger_drift.set(sweeper.drift / NANO)
        metrics.default_partition.set(sweeper.strays)
        metrics.uploads_bytes.set(uploads.bytes)

    metrics.before_scrape(refresh)
