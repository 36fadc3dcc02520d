"""A metered route as a value: how its requests are read, what its replies consume, how a refusal is said on it.

The story of a call (``proxy.py``, ``pump.py``) is the same for every route; what differs is all here and in the file of
the route's family, which ends with its ``SURFACE``. Pure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from config.catalog import Kind, Model
from gateway.envelope import Spent
from gateway.errors import Refusal
from gateway.filter import Cost as Cost
from gateway.meter import Count, Reading
from gateway.stored import Body
from ledger.usage import Usage

if TYPE_CHECKING:
    from gateway.counting import Counting


class Request(Protocol):
    """What every request offers. ``asked_output`` is in tokens per choice; ``text_bytes`` is what becomes input
    tokens."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def n(self) -> int: ...
    @property
    def asked_output(self) -> int | None: ...
    @property
    def include_usage(self) -> bool: ...
    @property
    def features(self) -> frozenset[str]: ...
    @property
    def text_bytes(self) -> int: ...


class Meter(Protocol):
    """What a reply consumed. ``sure``: no counting of ours is needed. ``variant``: what sets the price beside the kind
    of usage (the reply's service tier, an image's "size/quality"); empty: the base price."""

    @property
    def sure(self) -> bool: ...
    @property
    def reported(self) -> Usage | None: ...
    @property
    def variant(self) -> str: ...

    def estimate(self) -> int:
        """Upper estimate of the output tokens so far; cheap."""
        ...

    def text(self) -> str:
        """The answer's text that is not yet counted."""
        ...

    def anchor(self, text_tokens: int) -> None:
        """Take an exact count of ``text()`` as the ground of further estimates."""
        ...

    def reading(self, input_tokens: int, text_tokens: int) -> Reading:
        """The call's consumption; the two counts fill what was not reported."""
        ...


class Tap(Protocol):
    """The way of a streamed reply: the backend's bytes in, the caller's out, a copy to the meter.

    ``done``: the answer's end was seen, and ``terminal`` holds the bytes that end it, to be sent once the call is
    settled. ``failed``: the backend told of an error inside the stream.
    """

    @property
    def done(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    @property
    def terminal(self) -> bytes: ...
    @property
    def meter(self) -> Meter: ...

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> bytes: ...


class Envelope(Protocol):
    """How a refusal is said on a route: before the first byte, in the stream, and where the money cut an answer."""

    def reply(self, refusal: Refusal, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]: ...

    def event(self, refusal: Refusal, request_id: str) -> bytes: ...

    def cut(self, model: str, refusal: Refusal, request_id: str, spent: Spent | None = None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Surface:
    """One metered route.

    ``route`` is its OpenAI name, ``path`` where it stands under ``/v1`` here and under the backend's base, ``kind`` the
    models it takes. ``parse(body, content_type)``, which is told the type of a form alone, raises call.BadRequest and
    may wait for a body that lies on disk;
    ``rewrite(request, model, output_cap)`` is the body for the backend, of the same content type, and does not wait;
    ``foresee`` is the input side and the units known before the call, never output tokens; ``count`` is the input's
    tokens where nobody reported them. ``has_output``: output tokens are reserved. ``free``: never charged. ``reply``:
    what a whole reply may be; "any" goes through ``whole`` as text, "raw" through ``tap``. ``reopens``: after an
    answer's end its stream may hold another answer. ``form``: the body is a form that may hold a large file.
    """

    route: str
    path: str
    kind: Kind
    # Plain bytes on most surfaces; where `form` is set, any body.
    parse: Callable[[Any, str], Request]
    # These five take what this surface's own `parse` returned: a type of the route, which is not named here.
    rewrite: Callable[[Any, str, int | None], Body]
    foresee: Callable[[Any, Model, Counting], Awaitable[Usage]]
    count: Callable[[Any, Model, Counting], Awaitable[int]]
    tap: Callable[[Any, Count, Cost, int], Tap]
    whole: Callable[[Any, bytes, str, Count], Meter]
    envelope: Envelope
    has_output: bool = True
    free: bool = False
    reply: Literal["json", "any", "raw"] = "json"
    reopens: bool = False
    form: bool = False
