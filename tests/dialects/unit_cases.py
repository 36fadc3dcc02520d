"""Habits of the routes without a conversation: embeddings, rerank, speech, transcriptions, images, moderations."""

from __future__ import annotations

from typing import Any

from ledger.usage import Usage, UsageSource
from tests.dialects.case import COUNTED_INPUT, SECONDS_SENT, Case

COUNTED = UsageSource.COUNTED


def replied(route: str, name: str, usage: Usage, body: Any, **more: Any) -> Case:
    """A whole reply."""
    return Case(name, route, usage, body, whole=True, **more)


def vectors(**more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}], **more}


EMBEDDINGS = [
    replied(
        "embeddings",
        "prompt and total (OpenAI)",
        Usage(input=8),
        vectors(usage={"prompt_tokens": 8, "total_tokens": 8}),
        house=True,
    ),
    replied("embeddings", "total alone (Voyage)", Usage(input=10), vectors(usage={"total_tokens": 10})),
    replied(
        "embeddings",
        "a completion of zero (Mistral)",
        Usage(input=15),
        vectors(usage={"prompt_tokens": 15, "completion_tokens": 0, "total_tokens": 15}),
    ),
    replied(
        "embeddings",
        "token ids asked",
        Usage(input=3),
        vectors(usage={"prompt_tokens": 3, "total_tokens": 3}),
        asks={"input": [1, 2, 3]},
    ),
    replied("embeddings", "none", Usage(input=COUNTED_INPUT), vectors(), source=COUNTED),
]


def ranked(**more: Any) -> dict[str, Any]:
    return {"results": [{"index": 1, "relevance_score": 0.9}], **more}


RERANK = [
    replied("rerank", "total alone (Jina, vLLM)", Usage(input=815), ranked(usage={"total_tokens": 815}), house=True),
    replied(
        "rerank",
        "prompt and total (llama.cpp)",
        Usage(input=26),
        ranked(usage={"prompt_tokens": 26, "total_tokens": 26}),
    ),
    replied(
        "rerank",
        "tokens in meta (Cohere)",
        Usage(input=50),
        ranked(meta={"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 50, "output_tokens": 0}}),
    ),
    replied(
        "rerank",
        "search units alone (Cohere)",
        Usage(input=COUNTED_INPUT),
        ranked(meta={"billed_units": {"search_units": 1}}),
        source=COUNTED,
    ),
]

LETTERS = Usage(characters=len("Grüß Gott"))
_SOUND = {"type": "speech.audio.delta", "audio": "UklGRg=="}
SPEECH = [
    Case(
        "sound alone: by the character",
        "audio.speech",
        LETTERS,
        b"ID3\x04\x00" + bytes(range(256)) * 3,
        source=COUNTED,
        house=True,
    ),
    Case(
        "raw samples that end lines",
        "audio.speech",
        LETTERS,
        b"\r\n\r\n\x00\xff\r" * 40,
        source=COUNTED,
        asks={"response_format": "pcm"},
    ),
    Case(
        "events with tokens",
        "audio.speech",
        Usage(input=14, audio_out=101),
        [
            _SOUND,
            {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
        ],
        asks={"stream_format": "sse"},
        house=True,
    ),
    Case(
        "events without usage",
        "audio.speech",
        LETTERS,
        [_SOUND, {"type": "speech.audio.done"}],
        source=COUNTED,
        asks={"stream_format": "sse"},
    ),
    Case(
        "events asked for, sound sent",
        "audio.speech",
        LETTERS,
        b"OggS\x00\x02" + b"\x11" * 300,
        source=COUNTED,
        asks={"stream_format": "sse"},
    ),
]

HEARD = Usage(seconds=SECONDS_SENT)
_TOLD = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 45,
    "total_tokens": 59,
}
HEARD_TOKENS = Usage(input=4, audio_in=10, output=45)
TRANSCRIPTIONS = [
    replied("audio.transcriptions", "tokens", HEARD_TOKENS, {"text": "a", "usage": _TOLD}, house=True),
    replied(
        "audio.transcriptions", "seconds", Usage(seconds=8), {"text": "a", "usage": {"type": "duration", "seconds": 8}}
    ),
    replied(
        "audio.transcriptions",
        "begun seconds count",
        Usage(seconds=8),
        {"text": "a", "usage": {"type": "duration", "seconds": 7.0001}},
    ),
    replied(
        "audio.transcriptions",
        "verbose, duration alone",
        Usage(seconds=8),
        {"text": "a", "duration": 7.2},
        asks={"response_format": "verbose_json"},
    ),
    replied(
        "audio.transcriptions",
        "verbose, the duration a text",
        Usage(seconds=8),
        {"text": "a", "duration": "7.2"},
        asks={"response_format": "verbose_json"},
    ),
    replied(
        "audio.transcriptions",
        "verbose, both: the usage is told, not the length",
        Usage(seconds=9),
        {"text": "a", "duration": 7.2, "usage": {"type": "duration", "seconds": 9}},
        asks={"response_format": "verbose_json"},
    ),
    replied(
        "audio.transcriptions",
        "a text: by the file's length",
        HEARD,
        b"See you.",
        source=COUNTED,
        asks={"response_format": "text"},
    ),
    replied(
        "audio.transcriptions",
        "a text that looks like usage is a text",
        HEARD,
        b'{"usage":{"type":"duration","seconds":0}}',
        source=COUNTED,
        asks={"response_format": "text"},
    ),
    replied(
        "audio.transcriptions",
        "subtitles",
        HEARD,
        b"1\n00:00:00,000 --> 00:00:02,500\nSee you.\n",
        source=COUNTED,
        asks={"response_format": "srt"},
    ),
    replied(
        "audio.transcriptions", "nothing told (Groq)", HEARD, {"text": "a", "x_groq": {"id": "req"}}, source=COUNTED
    ),
    Case(
        "streamed, tokens",
        "audio.transcriptions",
        HEARD_TOKENS,
        [
            {"type": "transcript.text.delta", "delta": "Grüße"},
            {"type": "transcript.text.done", "text": "Grüße", "usage": _TOLD},
        ],
        house=True,
    ),
    Case(
        "streamed, nothing told",
        "audio.transcriptions",
        HEARD,
        [{"type": "transcript.text.delta", "delta": "Grüße"}, {"type": "transcript.text.done", "text": "Grüße"}],
        source=COUNTED,
    ),
    replied(
        "audio.translations",
        "seconds",
        Usage(seconds=8),
        {"text": "a", "usage": {"type": "duration", "seconds": 8}},
        house=True,
    ),
]

_DRAWN = {
    "input_tokens": 50,
    "output_tokens": 4160,
    "total_tokens": 4210,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
DRAWN = Usage(input=10, image_in=40, output=4160)


def drawing(kind: str, usage: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": f"image_generation.{kind}", "b64_json": "aGk=", **({"usage": usage} if usage else {}), **more}


_HD = {"n": 2, "size": "1024x1792", "quality": "hd"}
IMAGES = [
    replied("images.generations", "tokens", DRAWN, {"data": [{"b64_json": "aGk="}], "usage": _DRAWN}, house=True),
    replied(
        "images.generations",
        "tokens know no variant",
        DRAWN,
        {"data": [{"b64_json": "aGk="}], "usage": _DRAWN, "size": "1536x1024", "quality": "high"},
    ),
    replied(
        "images.generations",
        "by the picture, of a size and quality",
        Usage(images=2),
        {"data": [{"url": "u"}] * 2},
        source=COUNTED,
        variant="1024x1792/hd",
        asks=_HD,
    ),
    replied(
        "images.generations",
        "fewer pictures than asked for",
        Usage(images=1),
        {"data": [{"url": "u"}]},
        source=COUNTED,
        variant="1024x1792/hd",
        asks=_HD,
    ),
    replied(
        "images.generations",
        "the reply says which size and quality",
        Usage(images=1),
        {"data": [{"url": "u"}], "size": "1536x1024", "quality": "high"},
        source=COUNTED,
        variant="1536x1024/high",
    ),
    Case(
        "streamed, tokens",
        "images.generations",
        DRAWN,
        [drawing("partial_image", partial_image_index=0), drawing("completed", _DRAWN)],
        house=True,
    ),
    Case(
        "streamed, two pictures with a usage each",
        "images.generations",
        Usage(input=20, image_in=80, output=8320),
        [drawing("completed", _DRAWN), drawing("partial_image"), drawing("completed", _DRAWN)],
        asks={"n": 2},
    ),
    Case(
        "streamed, one picture told twice",
        "images.generations",
        DRAWN,
        [drawing("completed", _DRAWN), drawing("completed", _DRAWN)],
    ),
    Case(
        "streamed, nothing told",
        "images.generations",
        Usage(images=1),
        [drawing("partial_image"), drawing("completed")],
        source=COUNTED,
    ),
    replied("images.edits", "tokens", DRAWN, {"data": [{"b64_json": "aGk="}], "usage": _DRAWN}, house=True),
]

MODERATIONS = [
    replied(
        "moderations",
        "nothing but the price of a request",
        Usage(),
        {"id": "m", "results": [{"flagged": False}]},
        house=True,
    ),
    replied("moderations", "usage is not charged here", Usage(), {"results": [], "usage": {"prompt_tokens": 9}}),
]

CASES = [*EMBEDDINGS, *RERANK, *SPEECH, *TRANSCRIPTIONS, *IMAGES, *MODERATIONS]
