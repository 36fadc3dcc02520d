"""Reports that lie, err or attack: none raises or makes a part negative or absurd, each is named, what is not usable is
counted. Where two readings remain, the one is taken that does not charge less."""

from __future__ import annotations

from typing import Any

from ledger.usage import Usage, UsageSource
from tests.dialects.case import COUNTED_INPUT, Case
from tests.dialects.chat_cases import BY_COUNT, WORDS, alone, chat, finish, last, oai, said
from tests.dialects.event_cases import begins, created, delta, ends, item, over, search, told, words
from tests.dialects.unit_cases import HEARD, LETTERS, ranked, replied, vectors

COUNTED = UsageSource.COUNTED
HUGE = 10**18
ALL = ("prompt", "completion", "total")


def unusable(name: str, report: Any, *problems: str) -> Case:
    """A chat whose report is dropped as a whole."""
    return last(name, BY_COUNT, report, source=COUNTED, problems=problems)


def raw(name: str, usage: Usage, line: bytes, **more: Any) -> Case:
    """The usual answer and then this line, as it stands."""
    return chat(name, usage, *WORDS, finish(), line + b"\n\n", **more)


NUMBERS = [
    unusable("negative output", oai(5, -3), "completion"),
    unusable("negative input", oai(-5, 3, 8), "prompt"),
    unusable("all negative", oai(-5, -3), *ALL),
    unusable("10^18 in", oai(HUGE, 3), "prompt", "total"),
    unusable("10^18 out", oai(5, HUGE), "completion", "total"),
    unusable("just above what is believed", oai(100_000_001, 3, 5), "prompt"),
    unusable("texts", oai("12", "3", "15"), *ALL),
    unusable("fractions", oai(12.5, 3, 15.5), "prompt", "total"),
    unusable("a truth", oai(True, 3, 4), "prompt"),
    unusable("lists and objects", oai([5], {"n": 3}, 8), "prompt", "completion"),
    unusable("a list is no usage", [5, 3]),
    unusable("a text is no usage", "5 tokens"),
    unusable("a number is no usage", 8),
    raw(
        "NaN",
        BY_COUNT,
        b'data: {"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":3}}',
        source=COUNTED,
        problems=("prompt",),
    ),
    raw(
        "Infinity",
        BY_COUNT,
        b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":-Infinity}}',
        source=COUNTED,
        problems=("completion",),
    ),
    raw(
        "1e400",
        BY_COUNT,
        b'data: {"choices":[],"usage":{"prompt_tokens":1e400,"completion_tokens":3}}',
        source=COUNTED,
        problems=("prompt",),
    ),
    raw(
        "a number of 5000 digits",
        BY_COUNT,
        b'data: {"choices":[],"usage":{"prompt_tokens":' + b"9" * 5000 + b',"completion_tokens":3}}',
        source=COUNTED,
        newlines=(b"\n", b"\r\n"),
    ),  # nobody can read that line, and behind a bare CR it could still become another
    raw(
        "the same name twice: the last one is read",
        Usage(input=9, output=3),
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"prompt_tokens":9,"completion_tokens":3}}',
    ),
    raw(
        "nested 300 deep beside the usage",
        Usage(input=5, output=3),
        b'data: {"choices":[],"x":' + b"[" * 300 + b"]" * 300 + b',"usage":{"prompt_tokens":5,"completion_tokens":3}}',
    ),
    raw(
        "nested 300 deep where a number is due",
        Usage(input=5, output=3),
        b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,'
        b'"prompt_tokens_details":{"cached_tokens":' + b"[" * 300 + b"]" * 300 + b"}}}",
        problems=("cached",),
    ),
]

PARTS = [
    last("a total of 10^18", Usage(input=5, output=3), oai(5, 3, HUGE), problems=("total",)),
    last("a total below its parts", Usage(input=10, output=5), oai(10, 5, 3), problems=("total",)),
    last("a total far above its parts", Usage(input=10, output=5), oai(10, 5, 10_000_000), problems=("total",)),
    last("a negative total", Usage(input=10, output=5), oai(10, 5, -15), problems=("total",)),
    last(
        "more cached than given",
        Usage(input=10, output=5),
        oai(10, 5, prompt_tokens_details={"cached_tokens": 4000}),
        problems=("cached",),
    ),
    last(
        "negative cached",
        Usage(input=10, output=5),
        oai(10, 5, prompt_tokens_details={"cached_tokens": -4}),
        problems=("cached",),
    ),
    last(
        "a bad name, then a good one",
        Usage(input=6, cache_read=4, output=5),
        oai(10, 5, prompt_tokens_details={"cached_tokens": "4"}, prompt_cache_hit_tokens=4),
        problems=("cached",),
    ),
    last(
        "more reasoning than output",
        Usage(input=10, reasoning=5),
        oai(10, 5, completion_tokens_details={"reasoning_tokens": 90}),
        problems=("reasoning",),
    ),
    last(
        "more sound than input",
        Usage(audio_in=10, output=5),
        oai(10, 5, prompt_tokens_details={"audio_tokens": 11}),
        problems=("audio_in",),
    ),
    last(
        "details that are no object",
        Usage(input=10, output=5),
        oai(10, 5, prompt_tokens_details="x", completion_tokens_details=[1]),
    ),
    last("10^18 searches", Usage(input=10, output=5), oai(10, 5, num_search_queries=HUGE), problems=("web_searches",)),
    last(
        "written more than given",
        Usage(cache_write=10, output=5),
        oai(10, 5, prompt_tokens_details={"cache_write_tokens": 60}),
        problems=("cache_write",),
    ),
]

ORDER = [
    chat(
        "a good report, then a bad one",
        Usage(input=11, output=1),
        said("a", usage=oai(11, 1)),
        alone(oai(-1, -1)),
        problems=ALL,
    ),
    chat(
        "a bad report, then a good one",
        Usage(input=11, output=1),
        said("a", usage=oai(-1, -1)),
        alone(oai(11, 1)),
        problems=ALL,
    ),
    chat("a good report, then zeros", Usage(input=11, output=4), *WORDS, finish(usage=oai(11, 4)), alone(oai(0, 0))),
]

NAMES = [
    chat(
        "a service tier too long for a name",
        Usage(input=4, output=2),
        said("a"),
        alone(oai(4, 2), service_tier="x" * 5000),
    ),
    chat(
        "a service tier with a control character",
        Usage(input=4, output=2),
        said("a"),
        alone(oai(4, 2), service_tier="fl\nex"),
    ),
    chat("a service tier that is a number", Usage(input=4, output=2), said("a"), alone(oai(4, 2), service_tier=7)),
]

EVENTS = [
    Case(
        "negative output",
        "messages",
        Usage(input=12, output=5),
        [begins({"input_tokens": 12, "output_tokens": 1}), words("Grüße"), ends({"output_tokens": -5})],
        source=COUNTED,
        problems=("completion",),
    ),
    Case(
        "10^18 searches",
        "messages",
        Usage(input=12, output=9),
        [
            begins({"input_tokens": 12, "output_tokens": 1}),
            words("a"),
            ends({"output_tokens": 9, "server_tool_use": {"web_search_requests": HUGE}}),
        ],
        problems=("web_searches",),
    ),
    Case(
        "a start that is no object",
        "messages",
        Usage(input=COUNTED_INPUT, output=1),
        [{"type": "message_start", "message": [1]}, words("a"), {"type": "message_stop"}],
        source=COUNTED,
    ),
    Case(
        "texts for numbers",
        "responses",
        Usage(input=COUNTED_INPUT, output=5),
        [created(), delta("Grüße"), over({"input_tokens": "4", "output_tokens": "2"})],
        source=COUNTED,
        problems=("prompt", "completion"),
    ),
    Case(
        "searches below zero: the items are counted",
        "responses",
        Usage(input=4, output=2, web_searches=1),
        [
            created(),
            item(search({"type": "search"})),
            delta("a"),
            over(told(4, 2), tool_usage={"web_search": {"num_requests": -3}}),
        ],
        problems=("web_searches",),
    ),
    Case(
        "fields of every wrong type",
        "responses",
        Usage(input=COUNTED_INPUT, output=1),
        [
            {"type": "response.created", "response": 7},
            {"type": "response.output_item.done", "item": "x"},
            delta("a"),
            {
                "type": "response.completed",
                "response": {"usage": "x", "output": {}, "tool_usage": 3, "service_tier": []},
            },
        ],
        source=COUNTED,
    ),
]

UNITS = [
    replied(
        "embeddings",
        "a text for a number",
        Usage(input=COUNTED_INPUT),
        vectors(usage={"prompt_tokens": "8"}),
        source=COUNTED,
        problems=("prompt",),
    ),
    replied(
        "rerank",
        "a negative total",
        Usage(input=COUNTED_INPUT),
        ranked(usage={"total_tokens": -5}),
        source=COUNTED,
        problems=("total",),
    ),
    replied(
        "rerank", "usage that is no object", Usage(input=COUNTED_INPUT), ranked(usage="815", meta=[1]), source=COUNTED
    ),
    replied(
        "audio.transcriptions",
        "negative seconds",
        HEARD,
        {"text": "a", "usage": {"type": "duration", "seconds": -8}},
        source=COUNTED,
        problems=("seconds",),
    ),
    replied(
        "audio.transcriptions",
        "10^18 seconds",
        HEARD,
        {"text": "a", "usage": {"type": "duration", "seconds": HUGE}},
        source=COUNTED,
        problems=("seconds",),
    ),
    replied(
        "audio.transcriptions",
        "a duration that is none",
        HEARD,
        {"text": "a", "duration": "long"},
        source=COUNTED,
        problems=("duration",),
    ),
    replied(
        "images.generations",
        "more pictures than asked for",
        Usage(images=1),
        {"data": [{"url": "u"}] * 50},
        source=COUNTED,
        problems=("data",),
    ),
    replied(
        "images.generations",
        "negative tokens",
        Usage(images=1),
        {"data": [{"url": "u"}], "usage": {"input_tokens": -1, "output_tokens": 5}},
        source=COUNTED,
        problems=("prompt",),
    ),
    Case(
        "texts for numbers",
        "audio.speech",
        LETTERS,
        [{"type": "speech.audio.done", "usage": {"input_tokens": "14", "output_tokens": 5}}],
        source=COUNTED,
        problems=("prompt",),
        asks={"stream_format": "sse"},
    ),
]

CASES = [*NUMBERS, *PARTS, *ORDER, *NAMES, *EVENTS, *UNITS]
