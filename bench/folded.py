"""Folded stacks (`outer;inner;innermost count`, one a line) and what they say: which code the time goes to. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]*?)(?::\d+)?\)$")
_WAITING = ("concurrent/futures/thread.py:_worker", "threading.py:wait", "queue.py:get")
"""Innermost functions of a thread without work, which a sampler takes for busy."""
_LOOP = "asyncio/runners.py:run"
"""What is outside of it is the way from the command to the event loop, the same in every stack."""
_PACKAGE = re.compile(r".*/(?:site-packages|python3\.\d+)/")


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, outermost first, and how often it was seen."""

    frames: tuple[str, ...]
    count: int


def stacks(text: str) -> Iterator[Stack]:
    """The stacks of a folded file: those of threads that work, from the event loop inwards."""
    for line in text.splitlines():
        text_of_frames, _, count = line.rpartition(" ")
        frames = tuple(map(_named, text_of_frames.split(";")))
        if count.isdigit() and frames[-1] not in _WAITING:
            yield Stack(frames[frames.index(_LOOP) :] if _LOOP in frames else frames, int(count))


def _named(frame: str) -> str:
    """A frame as ``file:function``: without lines, and files below their package."""
    found = _FRAME.match(frame)
    if found is None:
        return frame
    return f"{_PACKAGE.sub('', found['file'])}:{found['function']}"


def own(seen: Iterable[Stack]) -> Counter[str]:
    """How often each function was the innermost."""
    counted: Counter[str] = Counter()
    for stack in seen:
        counted[stack.frames[-1]] += stack.count
    return counted


def within(seen: Iterable[Stack]) -> Counter[str]:
    """How often each function was anywhere in the stack."""
    counted: Counter[str] = Counter()
    for stack in seen:
        for frame in set(stack.frames):
            counted[frame] += stack.count
    return counted


def room(frame: str) -> str:
    """The room or package a function is in: the first part of its file's path."""
    file = frame.partition(":")[0]
    return file.partition("/")[0] if "/" in file else file or "native"


def by(counted: Counter[str], name: Callable[[str], str]) -> Counter[str]:
    """The counts summed under other names."""
    summed: Counter[str] = Counter()
    for frame, count in counted.items():
        summed[name(frame)] += count
    return summed


def reading(text: str, cpu_us: float, of: str, lines: int = 40) -> Iterator[str]:
    """What the time of one ``of`` (a call, a chunk), ``cpu_us`` microseconds of CPU, goes to."""
    seen = list(stacks(text))
    total = sum(stack.count for stack in seen)
    if not total:
        yield "Nothing was sampled."
        return
    yield f"{total} samples; CPU for each {of}: {cpu_us:.1f} µs."
    for title, counted in (
        ("by room or package, own time", by(own(seen), room)),
        ("by function, own time", own(seen)),
        ("by function, with what it calls", within(seen)),
    ):
        yield f"\n{title}: µs for each {of}, part"
        for name, count in counted.most_common(lines):
            yield f"  {cpu_us * count / total:8.2f}  {count / total:6.1%}  {name}"
