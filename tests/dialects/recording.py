"""Recorded streams: where they are, how each is framed, and what it says was used, worked out from its lines alone.

The ones beside the tests are always there; a folder named by FAREBOX_TRANSCRIPTS adds its `chat.*`, `completions.*`,
`responses.*` and `messages.*.jsonl`: one event a line, without frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ledger.usage import KINDS, Usage
from tests.dialects.case import MARKED, NAMED

_HERE = Path(__file__).parents[1] / "recordings"
_USUAL = ("auto", "default", "standard")
_FAILED = ("error", "response.failed")


@dataclass(frozen=True)
class Recording:
    """One stream of one route."""

    path: Path
    route: str

    @property
    def name(self) -> str:
        return f"{self.route}: {self.path.stem}"

    @cached_property
    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def sent(self, newline: bytes = b"\n", *, hides_usage: bool = False) -> bytes:
        """The stream's bytes; `hides_usage` leaves out the chunks of nothing but usage."""
        pairs = zip(self.lines, self.events, strict=True)
        shown = [(line, event) for line, event in pairs if not (hides_usage and _only_usage(event))]
        framed = [self._name(event, newline) + b"data: " + line + newline * 2 for line, event in shown]
        return b"".join([*framed, *([b"data: [DONE]" + newline * 2] if self.route in MARKED else [])])

    def _name(self, event: dict[str, Any], newline: bytes) -> bytes:
        return b"event: " + str(event["type"]).encode() + newline if self.route in NAMED else b""

    @property
    def failed(self) -> bool:
        return any(event.get("error") or event.get("type") in _FAILED for event in self.events)

    @property
    def usage(self) -> Usage | None:
        """What was reported; None: nothing was."""
        match self.route:
            case "responses":
                return _responses(self.events)
            case "messages":
                return _messages(self.events)
            case _:
                return _chat(self.events)

    @property
    def text(self) -> str:
        """The words of a chat or completion: what is counted where nothing was reported."""
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(_object(choice.get("delta")).get("content") or choice.get("text") or "" for choice in choices)

    @property
    def variant(self) -> str:
        """The service tier that was said last; empty for the usual one."""
        said = [tier for event in self.events for tier in _tiers(event) if isinstance(tier, str)]
        return said[-1] if said and said[-1] not in _USUAL else ""


def recordings() -> list[Recording]:
    """All there are."""
    found = [Recording(path, "chat.completions") for path in sorted(_HERE.glob("*.jsonl"))]
    found += [Recording(path, path.parent.name) for path in sorted(_HERE.glob("*/*.jsonl"))]
    if named := os.environ.get("FAREBOX_TRANSCRIPTS"):
        found += _named(Path(named))
    return found


def _named(folder: Path) -> Iterator[Recording]:
    for path in sorted(folder.glob("*.jsonl")):
        prefix = path.name.split(".")[0]
        yield Recording(path, "chat.completions" if prefix == "chat" else prefix)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _only_usage(event: dict[str, Any]) -> bool:
    return bool(event.get("usage")) and not event.get("choices")


def _tiers(event: dict[str, Any]) -> list[Any]:
    within = [event, event.get("response"), event.get("usage"), _object(event.get("message")).get("usage")]
    return [each.get("service_tier") for each in within if isinstance(each, dict)]


def _chat(events: list[dict[str, Any]]) -> Usage | None:
    """The last report says it all; what its total holds beyond the parts is cache or reasoning beside them."""
    reports = [event.get("usage") or _object(event.get("x_groq")).get("usage") for event in events]
    said = next((report for report in reversed(reports) if report), None)
    if said is None:
        return None
    prompt, completion = said["prompt_tokens"], said.get("completion_tokens", 0)
    details = _object(said.get("prompt_tokens_details"))
    cached = details.get("cached_tokens") or said.get("prompt_cache_hit_tokens") or 0
    written = details.get("cache_write_tokens") or 0
    thought = _object(said.get("completion_tokens_details")).get("reasoning_tokens") or 0
    spare = said.get("total_tokens", prompt + completion) - prompt - completion
    cache_beside = cached and spare in (cached, cached + thought) and spare != thought
    beside = spare - cached if cache_beside else spare
    inside = thought if not beside else 0
    return Usage(
        input=prompt if cache_beside else prompt - cached - written,
        cache_read=cached,
        cache_write=written,
        output=completion - inside,
        reasoning=beside or inside,
    )


def _messages(events: list[dict[str, Any]]) -> Usage | None:
    """Per message the largest of what its events say; several messages are added."""
    messages: list[dict[str, int]] = []
    ended = True
    for event in events:
        kind = event["type"]
        if kind == "message_start" and ended:
            messages.append({})
            ended = False
        ended = ended or kind == "message_stop"
        said = event.get("usage") or _object(event.get("message")).get("usage") or {}
        for name, amount in _flat(said):
            messages[-1][name] = max(amount, messages[-1].get(name, 0))
    usages = [_message(said) for said in messages if said]
    return _sum(usages) if usages else None


def _flat(said: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in said.items():
        if isinstance(value, dict):
            yield from _flat(value)
        elif isinstance(value, int):
            yield name, value


def _message(said: dict[str, int]) -> Usage:
    hour, thought = said.get("ephemeral_1h_input_tokens", 0), said.get("thinking_tokens", 0)
    return Usage(
        input=said.get("input_tokens", 0),
        cache_read=said.get("cache_read_input_tokens", 0),
        cache_write=said.get("cache_creation_input_tokens", 0) - hour,
        cache_write_1h=hour,
        output=said.get("output_tokens", 0) - thought,
        reasoning=thought,
        web_searches=said.get("web_search_requests", 0),
    )


def _responses(events: list[dict[str, Any]]) -> Usage | None:
    """The last event of each response says it all."""
    last = [event["response"] for event in events if _object(event.get("response")).get("usage")]
    return _sum([_response(response) for response in last]) if last else None


def _response(response: dict[str, Any]) -> Usage:
    said = response["usage"]
    given, made = _object(said.get("input_tokens_details")), _object(said.get("output_tokens_details"))
    cached, written, thought = (
        given.get("cached_tokens", 0),
        given.get("cache_write_tokens", 0),
        made.get("reasoning_tokens", 0),
    )
    told = _object(_object(response.get("tool_usage")).get("web_search")).get("num_requests")
    seen = sum(map(_is_search, response.get("output", ())))
    return Usage(
        input=said["input_tokens"] - cached - written,
        cache_read=cached,
        cache_write=written,
        output=said["output_tokens"] - thought,
        reasoning=thought,
        web_searches=seen if told is None else told,
    )


def _is_search(item: dict[str, Any]) -> bool:
    done = item.get("type") == "web_search_call" and item.get("status") == "completed"
    return done and _object(item.get("action")).get("type", "search") == "search"


def _sum(usages: list[Usage]) -> Usage:
    parts = [msgspec.structs.asdict(usage) for usage in usages]
    return Usage(**{kind: sum(each[kind] for each in parts) for kind in KINDS})
