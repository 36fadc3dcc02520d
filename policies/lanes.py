"""Lanes: which calls of a user are counted together where only their number counts. Pure.

What a person asks for, the tasks that come with it, and embeddings do not take each other's place in windows of
requests nor at once: one message is up to four calls, and one upload may be a hundred. Tasks and embeddings have a lane
of their own each, as wide as the tier says. Windows that name their route, and those of tokens and money, count all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from msgspec.structs import replace

from policies.key_limits import KeyLimits
from policies.tier import AMOUNT_MAX, Tier, Window

Lane = Literal["own", "tasks", "embeddings"]

EMBEDDINGS = "embeddings"
LANES: tuple[Lane, ...] = ("own", "tasks", "embeddings")
EMBEDDINGS_AT_ONCE = 8
"""Embeddings at once where the tier bounds its calls and does not say how many of these: the others wait a moment."""


def lane_of(route: str, task: str) -> Lane:
    """The lane of a call on this route with this label."""
    if route == EMBEDDINGS:
        return "embeddings"
    return "tasks" if task else "own"


def concurrency(tier: Tier, lane: Lane) -> int:
    """How many calls of this lane may be open at once; 0 is no limit."""
    if lane == "tasks":
        return tier.concurrency * tier.tasks_per_request
    if lane == "embeddings":
        usual = max(tier.concurrency, EMBEDDINGS_AT_ONCE) if tier.concurrency else 0
        return usual if tier.embeddings_concurrency is None else tier.embeddings_concurrency
    return tier.concurrency


def counted(tier: Tier, limits: KeyLimits | None, route: str, model: str, lane: Lane) -> tuple[Window, ...]:
    """The windows in which a call counts: those of the tier, and those of the key."""
    windows = tier.windows_for(route, model)
    if limits is not None and limits.windows:
        windows += limits.windows_for(route, model)
    if lane == "own" or not windows:
        return windows
    return tuple([widened for window in windows if (widened := _in_lane(tier, limits, window, lane)) is not None])


def beside(tier: Tier, windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """The windows that other lanes have beside these, which are those of a tier or a key."""
    found = (_of_lane(tier, windows, window, lane) for lane in LANES[1:] for window in windows)
    return tuple(each for each in found if each is not None and each not in windows)


def lane_of_window(window: Window) -> Lane | None:
    """Whose calls a window counts; None: those of all lanes."""
    if not _is_of_one_lane(window):
        return None
    for lane in LANES[1:]:
        if window.scope == lane or window.scope.endswith(f":{lane}"):
            return lane
    return "own"


def _in_lane(tier: Tier, limits: KeyLimits | None, window: Window, lane: Lane) -> Window | None:
    windows = limits.windows if window.scope and limits is not None else tier.windows
    return _of_lane(tier, windows, window, lane)


def _of_lane(tier: Tier, windows: tuple[Window, ...], window: Window, lane: Lane) -> Window | None:
    """What stands for this window in a lane: itself where it counts all of them, a wider one beside it, or None where
    whoever sets it has said with a window of its own how many embeddings there may be."""
    if not _is_of_one_lane(window):
        return window
    if lane == "embeddings" and any(each.of == "requests" and each.route == EMBEDDINGS for each in windows):
        return None
    return _wider(window, lane, tier.tasks_per_request if lane == "tasks" else tier.embeddings_per_request)


def _is_of_one_lane(window: Window) -> bool:
    return window.of == "requests" and window.route is None


@lru_cache(maxsize=4096)
def _wider(window: Window, lane: Lane, times: int) -> Window:
    scope = f"{window.scope}:{lane}" if window.scope else lane
    return replace(window, limit=min(window.limit * times, AMOUNT_MAX), scope=scope)
