"""How backends report usage, turned into disjoint parts. Pure.

Backends agree on little: whether cached tokens stand inside the input, whether reasoning stands inside the output,
and what each is called. `read` collects what one report says under our names, `merge` keeps the larger of two reports
(they are cumulative), and `disjoint` decides, mostly by the total, what contains what. Hostile values are dropped and
named, never raised. Where two readings are possible, the one that does not charge less is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ledger.usage import Usage

FIELD_MAX = 100_000_000  # tokens; above it a number is a fault, not a usage
HIDDEN_REASONING_MAX = 131_072  # tokens a total may hold beyond its parts before it is a fault and not hidden thinking

Path = tuple[str, ...]
_PROMPT, _INPUT = "prompt_tokens_details", "input_tokens_details"
_COMPLETION, _OUTPUT = "completion_tokens_details", "output_tokens_details"
_ALIASES: dict[str, tuple[Path, ...]] = {
    "prompt": (("prompt_tokens",), ("input_tokens",)),
    "completion": (("completion_tokens",), ("output_tokens",)),
    "total": (("total_tokens",),),
    "cached": (
        (_PROMPT, "cached_tokens"),
        (_INPUT, "cached_tokens"),
        ("prompt_cache_hit_tokens",),
        ("cache_read_input_tokens",),
        ("cached_tokens",),
    ),
    "written": (
        (_PROMPT, "cache_write_tokens"),
        (_PROMPT, "cache_creation_tokens"),
        (_INPUT, "cache_write_tokens"),
        ("cache_creation_input_tokens",),
        ("cache_write_tokens",),
    ),
    "written_5m": (("cache_creation", "ephemeral_5m_input_tokens"),),
    # The longer of two times to live, whichever it is: an hour at Anthropic, twelve at OpenAI.
    "written_1h": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        (_PROMPT, "cache_write_tokens_details", "ttl_12h"),
        (_INPUT, "cache_write_tokens_details", "ttl_12h"),
    ),
    "audio_in": ((_PROMPT, "audio_tokens"), (_INPUT, "audio_tokens")),
    "image_in": ((_PROMPT, "image_tokens"), (_INPUT, "image_tokens")),
    "reasoning": (
        (_COMPLETION, "reasoning_tokens"),
        (_OUTPUT, "reasoning_tokens"),
        (_OUTPUT, "thinking_tokens"),
        ("reasoning_tokens",),
    ),
    "audio_out": ((_COMPLETION, "audio_tokens"), (_OUTPUT, "audio_tokens")),
    "web_searches": (("server_tool_use", "web_search_requests"), ("num_search_queries",)),
}
_TOPS = frozenset(path[0] for paths in _ALIASES.values() for path in paths)
_USUAL = frozenset(("prompt_tokens", "completion_tokens", "total_tokens"))
_PLAIN = frozenset(("prompt", "completion", "total"))
_ANTHROPIC = frozenset(("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"))
_ESSENTIAL = frozenset(("prompt", "completion"))

Counts = dict[str, int]


class Report(NamedTuple):
    """What a backend said: the parts, which halves it spoke of at all, and the names of what was wrong with it."""

    usage: Usage
    input_known: bool
    output_known: bool
    problems: tuple[str, ...]


def read(raw: Mapping[str, Any]) -> tuple[Counts, tuple[str, ...]]:
    """Collect the numbers of one report, in any known dialect, under our names, and the names of those that were
    unusable. No number at all: it says neither input nor output in a usable way.

    A report whose input or output number is unusable is dropped as a whole: half a report would free the other half.
    """
    if raw.keys() == _USUAL:  # what most backends send
        prompt, completion, total = raw["prompt_tokens"], raw["completion_tokens"], raw["total_tokens"]
        whole = type(prompt) is type(completion) is type(total) is int
        if whole and 0 <= prompt <= FIELD_MAX and 0 <= completion <= FIELD_MAX and 0 <= total <= FIELD_MAX:
            return {"prompt": prompt, "completion": completion, "total": total}, ()
    counts: Counts = {}
    problems: list[str] = []
    for name, paths in _places(tuple([key for key in raw if key in _TOPS])):
        for key, within in paths:
            value = raw[key]
            for inner in within:
                value = value.get(inner) if type(value) is dict else None
            if value is None:
                continue
            number = value if type(value) is int and 0 <= value <= FIELD_MAX else _whole(value)
            if number is not None:
                if number or name in _PLAIN:  # a part that is nothing says no more than one that is left out
                    counts[name] = number
                break
            problems.append(name)
    if counts.keys().isdisjoint(_PLAIN) or (problems and not _ESSENTIAL.isdisjoint(problems)):
        return {}, tuple(problems)
    if "prompt_tokens" not in raw and not _ANTHROPIC.isdisjoint(raw):
        counts["cache_apart"] = 1
    return counts, tuple(problems)


def merge(counts: Counts, later: Counts) -> Counts:
    """Per number the larger: reports of one call are cumulative and may arrive in any order."""
    return {name: max(counts.get(name, 0), later.get(name, 0)) for name in counts.keys() | later.keys()}


def disjoint(counts: Counts, problems: tuple[str, ...] = ()) -> Report:
    """Turn collected numbers into parts that add up, each token in exactly one of them."""
    if counts.keys() == _PLAIN and counts["total"] == counts["prompt"] + counts["completion"]:
        usage = Usage(input=counts["prompt"], output=counts["completion"])
        return Report(usage, True, True, problems and tuple(dict.fromkeys(problems)))
    marks = list(problems)
    _fill_by_total(counts := dict(counts))
    parts = Usage(
        **_input_parts(counts, marks), **_output_parts(counts, marks), web_searches=counts.get("web_searches", 0)
    )
    return Report(parts, "prompt" in counts, "completion" in counts, tuple(dict.fromkeys(marks)))


@lru_cache(maxsize=256)
def _places(keys: tuple[str, ...]) -> list[tuple[str, list[tuple[str, Path]]]]:
    """Where to look in a report that has these keys, and where within what stands there: a backend's reports have the
    same ones every time."""
    found = ((name, [(path[0], path[1:]) for path in paths if path[0] in keys]) for name, paths in _ALIASES.items())
    return [(name, places) for name, places in found if places]


def _whole(value: Any) -> int | None:
    """A whole number within bounds, or None. 12.0 is whole: some backends know no integers. True is not a number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= FIELD_MAX:
        return None
    return value


def _fill_by_total(counts: Counts) -> None:
    """Where only one half and the total are said, the other half is their difference."""
    total = counts.get("total")
    if total is None:
        return
    if "prompt" not in counts:
        counts["prompt"] = max(0, total - counts.get("completion", 0))
    elif "completion" not in counts and total > counts["prompt"]:
        counts["completion"] = total - counts["prompt"]


def _spare(counts: Counts) -> int:
    """What the total holds beyond input and output; 0 when there is no total."""
    return counts.get("total", 0) - counts.get("prompt", 0) - counts.get("completion", 0) if "total" in counts else 0


def _caches(counts: Counts) -> int:
    return counts.get("cached", 0) + counts.get("written_1h", 0) + _written(counts)


def _written(counts: Counts) -> int:
    """Tokens written to the shorter-lived cache: what the sum holds beyond the longer-lived, or what is itemised."""
    return max(0, counts.get("written", 0) - counts.get("written_1h", 0), counts.get("written_5m", 0))


def _cache_apart(counts: Counts) -> bool:
    """Whether cached tokens stand beside the input and not inside it: said by the field names, or by the total."""
    caches, reasoning = _caches(counts), counts.get("reasoning", 0)
    if "cache_apart" in counts:
        return True
    return bool(caches) and _spare(counts) in (caches, caches + reasoning) and _spare(counts) != reasoning


def _input_parts(counts: Counts, marks: list[str]) -> Counts:
    hour = counts.get("written_1h", 0)
    # Dear kinds first: where parts overlap, the cheap one gives way.
    wanted = {"audio_in": counts.get("audio_in", 0), "image_in": counts.get("image_in", 0)}
    caches = {"cache_write_1h": hour, "cache_write": _written(counts), "cache_read": _cached(counts, marks)}
    if _cache_apart(counts):
        parts, rest = _share(counts.get("prompt", 0), wanted, marks)
        return {**parts, **caches, "input": rest}
    parts, rest = _share(counts.get("prompt", 0), wanted | caches, marks)
    return {**parts, "input": rest}


def _cached(counts: Counts, marks: list[str]) -> int:
    cached = counts.get("cached", 0)
    if cached <= counts.get("prompt", 0) or _cache_apart(counts):
        return cached
    # More cached than there was input: which is wrong cannot be told, so nothing gets the cheaper price.
    marks.append("cached")
    return 0


def _output_parts(counts: Counts, marks: list[str]) -> Counts:
    completion, reasoning = counts.get("completion", 0), counts.get("reasoning", 0)
    inside = {"audio_out": counts.get("audio_out", 0), "reasoning": reasoning}
    if reasoning and _reasoning_apart(counts, marks):
        parts, rest = _share(completion, {"audio_out": counts.get("audio_out", 0)}, marks)
        return {**parts, "reasoning": reasoning, "output": rest}
    parts, rest = _share(completion, inside, marks)
    parts["reasoning"] += _hidden(counts, marks)
    return {**parts, "output": rest}


def _reasoning_apart(counts: Counts, marks: list[str]) -> bool:
    """Whether reasoning stands beside the output: the total says so, or it is larger than the output it would be in."""
    reasoning, spare = counts["reasoning"], _spare(counts)
    if spare and spare in (reasoning, reasoning + _caches(counts)):
        return True
    larger = reasoning > counts.get("completion", 0)
    if larger:
        marks.append("reasoning")
    return larger and "total" not in counts


def _hidden(counts: Counts, marks: list[str]) -> int:
    """Output that only the total tells of: thinking that a backend bills but does not itemise."""
    spare = _spare(counts)
    if spare == 0 or (_caches(counts) and _cache_apart(counts)):
        return 0
    marks.append("total")
    return spare if 0 < spare <= HIDDEN_REASONING_MAX else 0


def _share(whole: int, wanted: Counts, marks: list[str]) -> tuple[Counts, int]:
    """Give each part what it wants, in order, while the whole lasts; return the parts and the rest."""
    parts: Counts = {}
    for name, amount in wanted.items():
        parts[name] = min(amount, whole)
        if amount > whole:
            marks.append(name)
        whole -= parts[name]
    return parts, whole
