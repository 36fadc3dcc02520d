"""Habits of chat and text completions. Each is how some vendor or server does it; the names say what is special."""

from __future__ import annotations

from typing import Any

from ledger.usage import Usage, UsageSource
from tests.dialects.case import COUNTED_INPUT, Case

COUNTED = UsageSource.COUNTED
_TEXTS = ("Grüße", ", ", "世界", "!")
_LETTERS = len("".join(_TEXTS))


def said(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with words."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice], **more}


def finish(reason: str = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    """The chunk that says why the answer ended."""
    return said("", index, **more) | {"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}


def alone(usage: Any, **more: Any) -> dict[str, Any]:
    """A chunk with nothing but usage."""
    return said("", **more) | {"choices": [], "usage": usage}


def oai(prompt: Any, completion: Any, total: Any = None, **more: Any) -> dict[str, Any]:
    """Usage as OpenAI spells it; the total is the sum where none is given."""
    total = prompt + completion if total is None else total
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def chat(name: str, usage: Usage, *sends: Any, **more: Any) -> Case:
    return Case(name, "chat.completions", usage, sends, **more)


def last(name: str, usage: Usage, report: Any, **more: Any) -> Case:
    """The usual answer, and this usage behind it."""
    return chat(name, usage, *WORDS, finish(), alone(report), **more)


WORDS = tuple(said(text) for text in _TEXTS)
BY_COUNT = Usage(input=COUNTED_INPUT, output=_LETTERS)

PLACES = [
    last("last chunk alone (OpenAI)", Usage(input=19, output=5), oai(19, 5), house=True),
    chat(
        "null until the last (OpenAI)",
        Usage(input=19, output=5),
        *(said(text, usage=None) for text in _TEXTS),
        finish(usage=None),
        alone(oai(19, 5)),
    ),
    chat("none at all", BY_COUNT, *WORDS, finish(), source=COUNTED),
    chat(
        "null everywhere",
        BY_COUNT,
        *(said(text, usage=None) for text in _TEXTS),
        finish(usage=None),
        source=COUNTED,
    ),
    chat(
        "every chunk, cumulative (vLLM continuous_usage_stats)",
        Usage(input=11, output=4),
        *(said(text, usage=oai(11, number)) for number, text in enumerate(_TEXTS, 1)),
        finish(usage=oai(11, 4)),
        alone(oai(11, 4)),
    ),
    chat(
        "every chunk, and no last one",
        Usage(input=11, output=3),
        *(said(text, usage=oai(11, number)) for number, text in enumerate(_TEXTS[:3], 1)),
    ),
    chat(
        "early only: what came later is counted",
        Usage(input=11, output=_LETTERS),
        said(_TEXTS[0], usage=oai(11, 1)),
        *WORDS[1:],
        finish(),
        source=COUNTED,
    ),
    chat("twice, equal", Usage(input=11, output=4), *WORDS, finish(usage=oai(11, 4)), alone(oai(11, 4))),
    chat("twice, the smaller last", Usage(input=11, output=9), *WORDS, finish(usage=oai(11, 9)), alone(oai(11, 4))),
    chat(
        "prompt grows while the answer runs (tools read at the backend)",
        Usage(input=140, output=4),
        said("a", usage=oai(20, 1)),
        said("b", usage=oai(90, 2)),
        said("c", usage=oai(140, 3)),
        finish(usage=oai(140, 4)),
    ),
    chat(
        "in the finish chunk, no choice-less chunk (Mistral)",
        Usage(input=124, output=22),
        said(""),
        finish("tool_calls", usage={"prompt_tokens": 124, "total_tokens": 146, "completion_tokens": 22}),
    ),
    chat(
        "under the vendor's key alone (Groq before it knew include_usage)",
        Usage(input=45, output=662),
        *WORDS,
        finish(x_groq={"id": "req", "usage": {"queue_time": 0.04, **oai(45, 662), "total_time": 2.65}}),
    ),
    chat(
        "under the vendor's key and at its place (Groq)",
        Usage(input=45, output=662),
        *WORDS,
        finish(x_groq={"id": "req", "usage": oai(45, 662)}, usage=oai(45, 662, queue_time=0.04, total_time=2.65)),
    ),
    chat(
        "inside the choice (Moonshot)",
        Usage(input=19, output=13, cache_read=8),
        *WORDS,
        said("")
        | {
            "choices": [
                {"index": 0, "delta": {}, "finish_reason": "stop", "usage": oai(27, 13, cached_tokens=8)},
            ]
        },
    ),
    chat(
        "two choices, one usage for both",
        Usage(input=9, output=4),
        *(said(text, index) for text in ("a", "b") for index in (0, 1)),
        *(finish(index=index) for index in (0, 1)),
        alone(oai(9, 4)),
        asks={"n": 2},
    ),
    chat(
        "two choices, usage of one (llama.cpp)",
        Usage(input=1000, output=2 * len("Grüße " * 20)),
        *(said("Grüße " * 20, index) for index in (0, 1)),
        *(finish(index=index) for index in (0, 1)),
        alone(oai(1000, 10)),
        asks={"n": 2},
        source=COUNTED,
        problems=("usage_of_one_choice",),
    ),
    last("explicit zeros are zeros", Usage(), oai(0, 0)),
    last("an empty object is no usage", BY_COUNT, {}, source=COUNTED),
    last(
        "completion alone: the input is counted",
        Usage(input=COUNTED_INPUT, output=31),
        {"completion_tokens": 31},
        source=COUNTED,
    ),
    last("prompt and total: the rest is output", Usage(input=7, output=5), {"prompt_tokens": 7, "total_tokens": 12}),
    last("whole numbers written as floats", Usage(input=12, output=3), oai(12.0, 3.0)),
    last("strings beside the numbers", Usage(input=12, output=3), oai(12, 3, provider="x", note=None, id="u")),
]

PARTS = [
    last(
        "cache inside the input (OpenAI)",
        Usage(input=176, cache_read=1024, output=5),
        oai(1200, 5, prompt_tokens_details={"cached_tokens": 1024, "audio_tokens": 0}),
    ),
    last(
        "cache beside the input: the total tells",
        Usage(input=20, cache_read=80, output=5),
        oai(20, 5, 105, prompt_tokens_details={"cached_tokens": 80}),
    ),
    last(
        "hit and miss (DeepSeek)",
        Usage(input=6, cache_read=64, output=14, reasoning=205),
        oai(
            70,
            219,
            prompt_cache_hit_tokens=64,
            prompt_cache_miss_tokens=6,
            completion_tokens_details={"reasoning_tokens": 205},
        ),
    ),
    last(
        "cache and its writing inside the input (OpenAI with explicit caching)",
        Usage(input=100, cache_read=500, cache_write=250, cache_write_1h=150, output=9),
        oai(
            1000,
            9,
            prompt_tokens_details={
                "cached_tokens": 500,
                "cache_write_tokens": 400,
                "cache_write_tokens_details": {"ttl_30m": 250, "ttl_12h": 150},
            },
        ),
    ),
    last(
        "Anthropic's names in a chat whose input holds them",
        Usage(input=10, cache_read=100, cache_write=10, output=10),
        oai(120, 10, cache_read_input_tokens=100, cache_creation_input_tokens=10),
    ),
    last(
        "cached at the top level (Moonshot, Step)",
        Usage(input=19, cache_read=8, output=13),
        oai(27, 13, cached_tokens=8),
    ),
    last(
        "reasoning inside the output (OpenAI)",
        Usage(input=24, output=271, reasoning=1084),
        oai(24, 1355, completion_tokens_details={"reasoning_tokens": 1084}),
    ),
    last(
        "reasoning beside the output: the total tells (xAI)",
        Usage(input=32, output=9, reasoning=415),
        oai(
            32,
            9,
            456,
            prompt_tokens_details={"text_tokens": 32, "cached_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 415},
            num_sources_used=0,
        ),
    ),
    last(
        "reasoning and cache both beside",
        Usage(input=32, cache_read=64, output=9, reasoning=415),
        oai(
            32, 9, 520, prompt_tokens_details={"cached_tokens": 64}, completion_tokens_details={"reasoning_tokens": 415}
        ),
    ),
    last(
        "reasoning larger than the output, and no total",
        Usage(input=5, output=10, reasoning=90),
        {"prompt_tokens": 5, "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 90}},
        problems=("reasoning",),
    ),
    last(
        "thinking that only the total holds (Gemini's compatible door)",
        Usage(input=5, output=10, reasoning=725),
        oai(5, 10, 740),
        problems=("total",),
    ),
    last(
        "reasoning at the top level",
        Usage(input=5, output=30, reasoning=70),
        oai(5, 100, reasoning_tokens=70),
    ),
    last(
        "sound in and out (OpenAI audio)",
        Usage(input=20, audio_in=80, output=40, audio_out=160),
        oai(
            100,
            200,
            prompt_tokens_details={"audio_tokens": 80, "text_tokens": 20},
            completion_tokens_details={"audio_tokens": 160, "text_tokens": 40},
        ),
    ),
    last(
        "pictures in, itemised",
        Usage(input=20, image_in=258, output=4),
        oai(278, 4, prompt_tokens_details={"image_tokens": 258, "text_tokens": 20}),
    ),
    last(
        "searches counted beside (Perplexity)",
        Usage(input=8, output=431, web_searches=3),
        oai(
            8,
            431,
            search_context_size="low",
            num_search_queries=3,
            citation_tokens=0,
            cost={"input_tokens_cost": 0.0, "request_cost": 0.005, "total_cost": 0.0054},
        ),
    ),
    last(
        "predictions accepted and rejected are output already (OpenAI)",
        Usage(input=5, output=50),
        oai(5, 50, completion_tokens_details={"accepted_prediction_tokens": 20, "rejected_prediction_tokens": 12}),
    ),
]

FRAMES = [
    chat(
        "comments that keep the line alive, the vendor's own cost (OpenRouter)",
        Usage(input=84, cache_read=110, output=1, reasoning=12),
        b": OPENROUTER PROCESSING\n\n",
        b": OPENROUTER PROCESSING\n\n",
        said("Hi", provider="X"),
        finish(),
        alone(
            oai(
                194,
                13,
                cost=0.95,
                is_byok=False,
                cost_details={"upstream_inference_cost": None},
                prompt_tokens_details={"cached_tokens": 110, "cache_write_tokens": 0, "audio_tokens": 0},
                completion_tokens_details={"reasoning_tokens": 12, "image_tokens": 0},
            )
        ),
    ),
    chat(
        "no space behind the colon, ids, a retry time",
        Usage(input=3, output=2),
        b'retry: 3000\n\nid: 1\ndata:{"choices":[{"index":0,"delta":{"content":"a\xc3\xa9"}}]}\n\n',
        b'id: 2\ndata:{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n',
    ),
    chat(
        "a byte order mark first",
        Usage(input=3, output=2),
        b'\xef\xbb\xbfdata: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n',
        alone(oai(3, 2)),
    ),
    chat(
        "one event on several data lines",
        Usage(input=3, output=2),
        b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":3,\ndata:  "completion_tokens":2}}\n\n',
    ),
    chat(
        "timings alone (llama.cpp that was not asked for usage)",
        BY_COUNT,
        *WORDS,
        finish(timings={"prompt_n": 12, "prompt_ms": 40.1, "predicted_n": 4, "predicted_per_second": 88.2}),
        source=COUNTED,
    ),
    chat(
        "usage and timings (llama.cpp)",
        Usage(input=9, cache_read=3, output=4),
        *WORDS,
        finish(),
        alone(
            oai(12, 4, prompt_tokens_details={"cached_tokens": 3}),
            timings={"cache_n": 3, "prompt_n": 9, "predicted_n": 4},
        ),
    ),
    chat(
        "a fingerprint, no total (Ollama's compatible door, old)",
        Usage(input=26, output=4),
        *(said(text, system_fingerprint="fp_ollama") for text in _TEXTS),
        finish(system_fingerprint="fp_ollama"),
        alone({"prompt_tokens": 26, "completion_tokens": 4}, system_fingerprint="fp_ollama"),
    ),
    chat(
        "thinking under two names is one thinking",
        Usage(input=COUNTED_INPUT, output=len("hmm") + len("so")),
        said("") | {"choices": [{"index": 0, "delta": {"reasoning": "hmm", "reasoning_content": "hmm"}}]},
        said("so"),
        finish(),
        source=COUNTED,
    ),
    chat(
        "a tool call is counted by name and arguments",
        Usage(input=COUNTED_INPUT, output=len("weather") + len('{"in":"Köln"}')),
        said("")
        | {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "tool_calls": [
                            {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"in":'}}
                        ]
                    },
                }
            ]
        },
        said("")
        | {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '"Köln"}'}}]}}]},
        finish("tool_calls"),
        source=COUNTED,
    ),
    chat(
        "content in typed parts (Mistral's thinking models)",
        Usage(input=COUNTED_INPUT, output=len("hmso")),
        said("")
        | {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "content": [
                            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                            {"type": "text", "text": "so"},
                        ]
                    },
                }
            ]
        },
        finish(),
        source=COUNTED,
    ),
    chat(
        "an error in the middle, after usage",
        Usage(input=11, output=1),
        said("a", usage=oai(11, 1)),
        {"error": {"message": "overloaded", "code": 503}},
        failed=True,
    ),
    chat(
        "an error in the middle, without usage",
        Usage(input=COUNTED_INPUT, output=1),
        said("a"),
        {"error": {"message": "overloaded", "code": 503}},
        source=COUNTED,
        failed=True,
    ),
]

TIERS = [
    chat(
        "service tier flex",
        Usage(input=4, output=2),
        said("a", service_tier="flex"),
        alone(oai(4, 2), service_tier="flex"),
        variant="flex",
    ),
    chat(
        "asked for priority, served by default",
        Usage(input=4, output=2),
        said("a", service_tier="priority"),
        alone(oai(4, 2), service_tier="default"),
    ),
    chat(
        "service tier null", Usage(input=4, output=2), said("a", service_tier=None), alone(oai(4, 2), service_tier=None)
    ),
]


def reply(content: str, **more: Any) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": content}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}


def whole(name: str, usage: Usage, sends: Any, **more: Any) -> Case:
    return Case(name, "chat.completions", usage, sends, whole=True, **more)


WHOLE = [
    whole(
        "whole, priority",
        Usage(input=4, output=2),
        reply("Hi", usage=oai(4, 2), service_tier="priority"),
        variant="priority",
        house=True,
    ),
    whole("whole, no usage", Usage(input=COUNTED_INPUT, output=5), reply("Hallo"), source=COUNTED),
    whole(
        "whole, cache and reasoning",
        Usage(input=6, cache_read=64, output=14, reasoning=205),
        reply(
            "Hi",
            usage=oai(
                70,
                219,
                prompt_tokens_details={"cached_tokens": 64},
                completion_tokens_details={"reasoning_tokens": 205},
            ),
        ),
    ),
]


def wrote(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk of a text completion."""
    return {"id": "t", "object": "text_completion", "choices": [{"index": index, "text": text}], **more}


def completion(name: str, usage: Usage, *sends: Any, **more: Any) -> Case:
    return Case(name, "completions", usage, sends, **more)


COMPLETIONS = [
    completion(
        "usage last",
        Usage(input=14, output=16),
        wrote("é to"),
        wrote("", usage=None),
        wrote("") | {"choices": [], "usage": oai(14, 16)},
        house=True,
    ),
    completion(
        "every chunk (vLLM)", Usage(input=3, output=2), wrote("a", usage=oai(3, 1)), wrote("b", usage=oai(3, 2))
    ),
    completion("none", Usage(input=COUNTED_INPUT, output=4), wrote("a té"), source=COUNTED),
    completion(
        "the echoed prompt is no output",
        Usage(input=COUNTED_INPUT, output=len(" upon")),
        wrote("On"),
        wrote("ce upon"),
        source=COUNTED,
        asks={"echo": True},
    ),
    completion(
        "two prompts, one usage",
        Usage(input=8, output=6),
        *(wrote("ab", index) for index in (0, 1)),
        wrote("") | {"choices": [], "usage": oai(8, 6)},
        asks={"prompt": ["one", "two"]},
    ),
]
COMPLETIONS.append(
    Case(
        "whole", "completions", Usage(input=14, output=16), wrote("x") | {"usage": oai(14, 16)}, whole=True, house=True
    )
)

CASES = [*PLACES, *PARTS, *FRAMES, *TIERS, *WHOLE, *COMPLETIONS]
