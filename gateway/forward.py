"""Sends a call to the backend of one candidate: which address, which credential, which body, how much patience.

Knows the catalogue and the settings; the connection itself is ``upstream.py``'s.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from config.catalog import Catalog, Upstream
from config.environment import environment_secret
from config.parts import Limits, Timeouts
from gateway.downstream import Headers
from gateway.headers import to_upstream
from gateway.order import Candidate
from gateway.phase import Patience
from gateway.stored import Source
from gateway.surface import Request, Surface
from gateway.upstream import Reply, Target, UpstreamFailure, Upstreams

Sent = Callable[[float, bool], None]
"""Told the instant at which some of a request left, and whether that was the last of it."""


class Forwarder:
    """One for each process. Targets and patience are made once for each catalogue."""

    def __init__(
        self, upstreams: Upstreams, catalog: Callable[[], Catalog], timeouts: Timeouts, limits: Limits
    ) -> None:
        self._upstreams = upstreams
        self._catalog = catalog
        self._defaults = timeouts
        self.limits = limits
        self._for = Catalog()  # the one that was last looked at
        self._targets: dict[str, Target] = {}
        self._patience: dict[str, Patience] = {}

    def open(
        self,
        surface: Surface,
        request: Request,
        candidate: Candidate,
        patience: Patience,
        *,
        request_id: str,
        headers: Headers,
        output_cap: int | None,
        sent: Sent,
    ) -> Awaitable[Reply]:
        """The head of the candidate's reply, to be awaited, with the patience that was just asked for. ``sent`` is told
        when the request leaves, and of each piece of one that lies on disk. Raises UpstreamFailure."""
        target = self._target(candidate.model.upstream)
        body = surface.rewrite(request, candidate.model.upstream_model, output_cap)
        outgoing = to_upstream(headers, target, request_id)
        sent(time.monotonic(), isinstance(body, bytes))
        return self._upstreams.open(
            target,
            path=surface.path,
            body=body if isinstance(body, bytes) else _Leaving(body, sent),
            headers=outgoing,
            connect_timeout_s=patience.connect,
        )

    def patience(self, candidate: Candidate) -> Patience:
        """The upstream's own timeouts over the settings', but for the total: how long a hold may stay in quarantine
        follows from the settings', so no upstream may take longer."""
        catalog, name = self._catalog(), candidate.model.upstream
        if catalog is not self._for:
            self._for, self._targets, self._patience = catalog, {}, {}
        patience = self._patience.get(name)
        if patience is None:
            patience = self._patience[name] = self._patience_with(catalog.upstream(name))
        return patience

    def _patience_with(self, upstream: Upstream | None) -> Patience:
        default = self._defaults
        if upstream is None:
            return Patience(default.connect_s, default.first_byte_s, default.idle_s, default.total_s)
        own = upstream.timeouts
        return Patience(
            own.connect_s or default.connect_s,
            own.first_byte_s or default.first_byte_s,
            own.idle_s or default.idle_s,
            min(own.total_s or default.total_s, default.total_s),
        )

    def _target(self, name: str) -> Target:
        """The upstream of this name in the catalogue that was last looked at. Raises UpstreamFailure."""
        target = self._targets.get(name)
        if target is None:
            upstream = self._for.upstream(name)
            if upstream is None:
                raise UpstreamFailure("connect", f"no upstream {name}")
            target = self._targets[name] = target_of(upstream)
        return target


class _Leaving:
    """A body that tells how far the backend has taken it: the next piece is asked for when the last one is gone."""

    def __init__(self, body: Source, sent: Sent) -> None:
        self._body = body
        self._sent = sent

    def __len__(self) -> int:
        return len(self._body)

    async def read(self, start: int, end: int) -> bytes:
        piece = await self._body.read(start, end)
        self._sent(time.monotonic(), end >= len(self))
        return piece


def target_of(upstream: Upstream) -> Target:
    """The address and credential of an upstream. Raises UpstreamFailure when they are not usable."""
    secret = environment_secret(upstream.api_key_env) if upstream.api_key_env else None
    try:
        key = secret.get_secret_value() if secret else ""
        return Target.of(
            upstream.name, upstream.base_url, key, upstream.headers, upstream.capabilities, upstream.allow_private
        )
    except ValueError as wrong:
        raise UpstreamFailure("connect", str(wrong)) from None
