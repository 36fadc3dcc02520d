"""What every metered route promises, whichever way an answer ends: who is told what, and what it costs.

One table has a row for each route: what is asked, what the backend says, what that is in usage. One test holds every
route to the same promises, streamed or not, at every ending. Each kind of usage has a price of its own, a prime.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.surfaces import SURFACES
from ledger.money import format_usd
from ledger.usage import KINDS, UNIT_KINDS, Usage
from tests import house
from tests.backend import LAST_CHUNK, Backend, Close, Stall, Step, chunk, error, head, json_answer
from tests.gateway.forms import CONTENT_TYPE, file, form, part
from tests.house import Answer, Caller, Farebox
from tests.streams import tokens, until

# Nano-USD for each unit: no two kinds can be taken for one another.
RATES = dict(zip(KINDS, (101, 103, 107, 109, 113, 127, 1009, 1013, 1019, 10007, 10009, 10037, 1021), strict=True))
PER_REQUEST = 100_003
FUNDS = 10**9
POOR = 200_000  # pays for some hundred tokens of output


def amount(usage: Usage) -> int:
    """Nano-USD."""
    return sum(amount * RATES[kind] for kind, amount in usage.parts().items()) + PER_REQUEST


def _price(kind: str, nano: int) -> str:
    """As the catalogue has it: USD for one unit, or for a million."""
    return f'{kind} = "{Decimal(nano) / (10**9 if kind in UNIT_KINDS else 10**3):f}"'


_PRICES = ", ".join(_price(kind, nano) for kind, nano in RATES.items())
_PRICES += f', per_request = "{format_usd(PER_REQUEST)}"'
_MODEL = '[[models]]\nid = "a-{0}"\nupstream = "main"\nkind = "{0}"\nprices = {{ {1} }}\n'
CATALOG = (
    "".join(_MODEL.format(kind, _PRICES) for kind in sorted({surface.kind for surface in SURFACES}))
    + '[[tiers]]\nname = "single"\nconcurrency = 1\n'
)

# The table ----------------------------------------------------------------------------------------------------------

JSON, EVENTS, SOUND = "application/json", "text/event-stream", "audio/mpeg"


@dataclass(frozen=True)
class Way:
    """One way of asking a route, and what comes of it.

    An answer is ``said`` and then ``told``, which holds the usage where the route knows any; ``bare`` is a whole answer
    without usage, and ``counted`` what that costs. ``unheard`` is for a caller who left while nothing had come,
    ``heard`` for one who left after ``said``, ``broke`` for an answer that the backend broke off there (None: nothing
    is due). ``failed`` is the backend's own word of an error, ``more`` a piece of output that may come again and again.
    """

    ask: dict[str, Any]
    type: str
    said: tuple[bytes, ...]
    told: tuple[bytes, ...]
    reported: Usage | None
    bare: tuple[bytes, ...]
    counted: Usage
    unheard: Usage
    heard: Usage
    broke: Usage | None = None
    failed: bytes = b""
    more: bytes = b""
    source: str = "counted"  # where no usage was reported
    sound: bytes = b""  # asked for in a form, with this file

    @property
    def streamed(self) -> bool:
        return self.type != JSON

    def request(self, model: str) -> tuple[bytes, str]:
        """Body and content type."""
        fields = {"model": model, **self.ask}
        if not self.sound:
            return json.dumps(fields).encode(), JSON
        parts = [part(name, str(value).encode()) for name, value in fields.items()]
        name, content = ("image", self.sound) if "prompt" in fields else ("file", self.sound)
        return form(*parts, file(name, content)), CONTENT_TYPE


def whole(ask: dict[str, Any], reply: dict[str, Any], usage: dict[str, Any], counted: Usage, **more: Any) -> Way:
    """A way whose answer is one JSON; of half an answer only the request is known."""
    body, cut = json.dumps({**reply, **usage}).encode(), 9
    given: dict[str, Any] = {"unheard": counted, "heard": more.get("unheard", counted), "reported": None, **more}
    bare = (json.dumps(reply).encode(),)
    return Way(ask, JSON, (body[:cut],), (body[cut:],), bare=bare, counted=counted, **given)


def _event(value: Any, *, named: bool = False) -> bytes:
    return (f"event: {value['type']}\n" if named else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def _named(*values: Any) -> tuple[bytes, ...]:
    return tuple(_event(value, named=True) for value in values)


def _wav(seconds: float, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(rate)
        sound.writeframes(bytes(int(rate * seconds)))
    return file.getvalue()


WORDS = ("The quick ", "brown fox")
TEXT = "".join(WORDS)
MORE = "word after word "
TOLD = tokens(TEXT)
DONE = b"data: [DONE]\n\n"
OOM = {"message": "out of memory", "type": "server_error", "code": "oom"}

# The dialect of chats: cached and heard input stand inside the prompt, thinking and speech inside the completion.
CHAT_USAGE = {
    "prompt_tokens": 41,
    "completion_tokens": 17,
    "total_tokens": 58,
    "prompt_tokens_details": {"cached_tokens": 13, "audio_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 2},
}
CHAT_REPORTED = Usage(input=25, cache_read=13, audio_in=3, output=8, reasoning=7, audio_out=2)


def _chats(ask: dict[str, Any], asked: int, choice: Any, streamed: Any) -> tuple[Way, Way]:
    """Chats and text completions: ``choice(text)`` in a whole answer, ``streamed(text)`` in a stream."""

    def piece(text: str, finish: str | None = None) -> bytes:
        return _event({"id": "c", "choices": [{"index": 0, "finish_reason": finish, **streamed(text)}]})

    counted = Usage(input=asked, output=TOLD)
    reply = {"id": "c", "choices": [{"index": 0, "finish_reason": "stop", **choice(TEXT)}]}
    said, end = tuple(map(piece, WORDS)), piece("", "stop")
    report = _event({"id": "c", "choices": [], "usage": CHAT_USAGE})
    return (
        whole(ask, reply, {"usage": CHAT_USAGE}, counted, reported=CHAT_REPORTED, unheard=Usage(input=asked)),
        Way(
            ask={**ask, "stream": True, "stream_options": {"include_usage": True}},
            type=EVENTS,
            said=said,
            told=(end, report, DONE),
            reported=CHAT_REPORTED,
            bare=(*said, end, DONE),
            counted=counted,
            unheard=Usage(input=asked),
            heard=counted,
            broke=counted,
            failed=_event({"error": OOM}) + DONE,
            more=piece(MORE),
        ),
    )


RESPONSE_USAGE = {
    "input_tokens": 41,
    "input_tokens_details": {"cached_tokens": 13},
    "output_tokens": 17,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 58,
}


def _responses() -> tuple[Way, Way]:
    ask = {"input": "hello", "instructions": "Be brief."}
    asked = tokens("hello\nBe brief.") + 2 * 3
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": TEXT}]}
    reply = {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}
    usage = {"usage": RESPONSE_USAGE, "tool_usage": {"web_search": {"num_requests": 2}}}
    reported = Usage(input=28, cache_read=13, output=10, reasoning=7, web_searches=2)
    counted = Usage(input=asked, output=TOLD)
    deltas = [{"type": "response.output_text.delta", "delta": word} for word in WORDS]
    said = _named({"type": "response.created", "response": {"id": "resp_1", "usage": None}}, *deltas)
    return (
        whole(ask, reply, usage, counted, reported=reported, unheard=Usage(input=asked)),
        Way(
            ask={**ask, "stream": True},
            type=EVENTS,
            said=said,
            told=_named({"type": "response.completed", "response": {**reply, **usage}}),
            reported=reported,
            bare=(*said, *_named({"type": "response.completed", "response": reply})),
            counted=counted,
            unheard=Usage(input=asked),
            heard=counted,
            broke=counted,
            failed=_event({**OOM, "type": "error"}, named=True),
            more=_event({"type": "response.output_text.delta", "delta": MORE}, named=True),
        ),
    )


MESSAGE_INPUT = {
    "input_tokens": 28,
    "cache_read_input_tokens": 13,
    "cache_creation_input_tokens": 12,
    "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 5},
}
MESSAGE_OUTPUT = {"output_tokens": 17, "server_tool_use": {"web_search_requests": 2}}


def _messages() -> tuple[Way, Way]:
    ask = {"max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    asked = Usage(input=tokens("user\nhello") + 3)
    counted = _with_output(asked, TOLD)
    told = Usage(input=28, cache_read=13, cache_write=7, cache_write_1h=5)
    reported = Usage(input=28, cache_read=13, cache_write=7, cache_write_1h=5, output=17, web_searches=2)
    message = {"id": "msg_1", "type": "message", "role": "assistant"}
    reply = {**message, "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn"}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [_block_delta(word) for word in WORDS]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    end = {"type": "message_stop"}
    begun = {**message, "usage": {**MESSAGE_INPUT, "output_tokens": 1}}
    return (
        whole(ask, reply, {"usage": MESSAGE_INPUT | MESSAGE_OUTPUT}, counted, reported=reported, unheard=asked),
        Way(
            ask={**ask, "stream": True},
            type=EVENTS,
            said=_named({"type": "message_start", "message": begun}, block, *deltas),
            told=_named({"type": "content_block_stop", "index": 0}, {**stop, "usage": MESSAGE_OUTPUT}, end),
            reported=reported,
            bare=_named({"type": "message_start", "message": message}, block, *deltas, stop, end),
            counted=counted,
            unheard=asked,
            heard=_with_output(told, TOLD),
            broke=_with_output(told, TOLD),
            failed=_event({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}, named=True),
            more=_event(_block_delta(MORE), named=True),
        ),
    )


def _block_delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def _with_output(usage: Usage, output: int) -> Usage:
    return usage.maximum(Usage(output=output))


INPUT_ALONE = {"usage": {"prompt_tokens": 41, "total_tokens": 41}}
SPOKEN = "Fünf Wörter für Ödön 👋"


def _speech() -> tuple[Way, Way]:
    ask, known = {"input": SPOKEN, "voice": "alloy"}, Usage(characters=len(SPOKEN))
    delta, done = {"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done"}
    usage = {"usage": {"input_tokens": 41, "output_tokens": 17, "total_tokens": 58}}
    sound = (b"ID3\4" + bytes(300), bytes(500))
    costs: dict[str, Any] = {"counted": known, "unheard": known, "heard": known, "broke": known}
    return (
        Way(ask, SOUND, said=sound[:1], told=sound[1:], reported=None, bare=sound, **costs),
        Way(
            {**ask, "stream_format": "sse"},
            EVENTS,
            said=(_event(delta),),
            told=(_event({**done, **usage}),),
            reported=Usage(input=41, audio_out=17),
            bare=(_event(delta), _event(done)),
            failed=_event({"error": OOM}),
            **costs,
        ),
    )


def _transcription(rate: int) -> tuple[Way, Way]:
    known, sound = Usage(seconds=3), _wav(2.5, rate)  # begun seconds
    usage = {
        "type": "tokens",
        "input_tokens": 41,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 37},
        "output_tokens": 17,
        "total_tokens": 58,
    }
    reported = Usage(input=4, audio_in=37, output=17)
    delta, done = {"type": "transcript.text.delta", "delta": TEXT}, {"type": "transcript.text.done", "text": TEXT}
    return (
        whole({"language": "en"}, {"text": TEXT}, {"usage": usage}, known, reported=reported, sound=sound),
        Way(
            {"stream": "true"},
            EVENTS,
            said=(_event(delta),),
            told=(_event({**done, "usage": usage}),),
            reported=reported,
            bare=(_event(delta), _event(done)),
            counted=known,
            unheard=known,
            heard=known,
            broke=known,
            failed=_event({"error": OOM}),
            sound=sound,
        ),
    )


IMAGE_USAGE = {
    "input_tokens": 41,
    "input_tokens_details": {"text_tokens": 4, "image_tokens": 37},
    "output_tokens": 17,
    "total_tokens": 58,
}
PICTURE = {"b64_json": "AAAA"}


def _images(event: str, given: bytes = b"") -> tuple[Way, Way]:
    """A picture that is not finished is worth nothing, but who leaves does not stop its making."""
    reported, twice = Usage(input=4, image_in=37, output=17), Usage(input=8, image_in=74, output=34)
    ask, known = {"prompt": "a lighthouse", "n": 2}, Usage(images=2)
    partial = _event({"type": f"{event}.partial_image", **PICTURE})
    done = {"type": f"{event}.completed", **PICTURE}
    return (
        whole(ask, {"data": [PICTURE] * 2}, {"usage": IMAGE_USAGE}, known, reported=reported, sound=given),
        Way(
            {**ask, "stream": "true" if given else True},
            EVENTS,
            said=(partial,),
            told=(_event({**done, "usage": IMAGE_USAGE}),) * 2,
            reported=twice,
            bare=(partial, _event(done), _event(done)),
            counted=known,
            unheard=known,
            heard=known,
            broke=None,
            failed=_event({"error": OOM}),
            sound=given,
        ),
    )


_ASKED = {"messages": [{"role": "user", "content": "hello"}]}
_CHAT_TOKENS = 3 + tokens("user") + tokens("hello") + 3
_RANKED = {"query": "which", "documents": ["this one", "that one"]}
_RANKED_TOKENS = Usage(input=tokens("which\nwhich\nthis one\nthat one"))

ROWS: dict[str, tuple[Way, ...]] = {
    "chat.completions": _chats(
        _ASKED,
        _CHAT_TOKENS,
        lambda text: {"message": {"role": "assistant", "content": text}},
        lambda text: {"delta": {"content": text}},
    ),
    "completions": _chats(
        {"prompt": "hello"}, tokens("hello"), lambda text: {"text": text}, lambda text: {"text": text}
    ),
    "embeddings": (
        whole(
            {"input": "hello"}, {"data": [{"embedding": [0.5]}]}, INPUT_ALONE, Usage(input=1), reported=Usage(input=41)
        ),
    ),
    "responses": _responses(),
    "messages": _messages(),
    "messages.count_tokens": (whole(_ASKED, {"input_tokens": 9}, {}, Usage()),),
    "rerank": (whole(_RANKED, {"results": []}, INPUT_ALONE, _RANKED_TOKENS, reported=Usage(input=41)),),
    "audio.speech": _speech(),
    "audio.transcriptions": _transcription(192_000),  # half a megabyte, which goes by way of the disk
    "audio.translations": _transcription(8_000),
    "images.generations": _images("image_generation"),
    "images.edits": _images("image_edit", b"\x89PNG" + bytes(400_000)),
    "moderations": (whole({"input": "hello"}, {"results": []}, {}, Usage(), source="reported"),),
}

# The endings --------------------------------------------------------------------------------------------------------

COMPLETED, BARE = "completed with usage", "completed without usage"
LEFT_EARLY, LEFT_LATE = "caller gone before the head", "caller gone in the middle"
REFUSED, FAILED, BROKEN = "backend refuses", "backend fails", "backend breaks off"
TOLD_ERROR, POOR_END = "backend tells of an error", "balance ends"


def _endings(way: Way) -> list[str]:
    """The endings this way of asking can have."""
    possible = {COMPLETED: way.reported, TOLD_ERROR: way.failed, POOR_END: way.more}
    every = [COMPLETED, BARE, LEFT_EARLY, LEFT_LATE, REFUSED, FAILED, BROKEN, TOLD_ERROR, POOR_END]
    return [ending for ending in every if possible.get(ending, True)]


CASES = [
    pytest.param(route, way, ending, id=f"{route}, {way.type}: {ending}")
    for route, ways in ROWS.items()
    for way in ways
    for ending in _endings(way)
]
BY_ROUTE = {surface.route: surface for surface in SURFACES}


@dataclass(frozen=True)
class Charged:
    """What the ledger says of a call."""

    outcome: str
    source: str
    usage: Usage


def expected(route: str, way: Way, ending: str) -> Charged | None:
    """None: the call was voided."""
    usage, outcome, source = {
        COMPLETED: (way.reported, "completed", "reported"),
        BARE: (way.counted, "completed", way.source),
        LEFT_EARLY: (way.unheard, "caller_left", way.source),
        LEFT_LATE: (way.heard, "caller_left", way.source),
        BROKEN: (way.broke, "upstream_error", way.source),
        TOLD_ERROR: (way.broke, "upstream_error", way.source),
    }.get(ending, (None, "", ""))
    return None if usage is None or BY_ROUTE[route].free else Charged(outcome, source, usage)


@pytest.fixture(scope="module")
async def backend() -> AsyncIterator[Backend]:
    async with Backend().running() as backend:
        yield backend


@pytest.fixture(scope="module")
async def farebox(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server_url: str, backend: Backend
) -> AsyncIterator[Farebox]:
    """One for all: every test has a caller of its own."""
    folder: Path = tmp_path_factory.mktemp("routes")
    async with house.farebox(folder, module_database_url, redis_server_url, backend.url, catalog=CATALOG) as running:
        yield running


def test_every_route_has_its_row() -> None:
    assert ROWS.keys() == BY_ROUTE.keys() and all(ROWS.values())
    assert len(set(RATES.values())) == len(KINDS)


@pytest.mark.parametrize(("route", "way", "ending"), CASES)
async def test_a_route_keeps_its_promise(route: str, way: Way, ending: str, farebox: Farebox, backend: Backend) -> None:
    funds = POOR if ending == POOR_END else FUNDS
    ada = await farebox.caller(tier="single", usd=format_usd(funds))
    call = Call(route, way, ada, farebox, backend)
    await call.ends(ending)
    rows = await farebox.charges(ada.user.id)
    if ending == POOR_END:
        (row,) = rows
        assert (row["outcome"], row["overrun"]) == ("cut_by_balance", 0)
        assert funds // 2 < row["amount"] <= funds
        assert 0 < PER_REQUEST + call.delivered * RATES["output"] <= row["amount"]
    else:
        charged = expected(route, way, ending)
        assert [_charged(row) for row in rows] == ([charged] if charged else [])
        assert [row["amount"] for row in rows] == ([amount(charged.usage)] if charged else [])
    assert all((row["route"], row["model"]) == (route, f"a-{BY_ROUTE[route].kind}") for row in rows)
    assert await farebox.spendable(ada) == funds - sum(row["amount"] for row in rows)
    await _left_nothing_behind(farebox, ada, backend)


def _charged(row: Any) -> Charged:
    return Charged(row["outcome"], row["usage_source"], Usage(**row["usage"]))


async def _left_nothing_behind(farebox: Farebox, ada: Caller, backend: Backend) -> None:
    """No money is held, every sum is right, and the one slot of the tier is free."""
    held = "SELECT id FROM holds WHERE wallet_id = :wallet AND state NOT IN ('settled', 'voided')"
    assert not await farebox.rows(held, wallet=ada.user.wallet_id)
    assert not await farebox.broken()
    backend.answer = json_answer({"input_tokens": 9})
    assert (await farebox.post("/v1/messages/count_tokens", {"model": "a-chat", **_ASKED}, ada)).status == 200


# A call and its endings ---------------------------------------------------------------------------------------------


class Call:
    """One call by a caller of its own, brought to one ending; what the caller sees is checked on the way."""

    def __init__(self, route: str, way: Way, ada: Caller, farebox: Farebox, backend: Backend) -> None:
        self.route, self.way, self.ada, self.farebox, self.backend = route, way, ada, farebox, backend
        self.before = len(backend.requests)
        self.delivered = 0  # tokens of an answer that was cut

    async def ends(self, ending: str) -> None:
        """Play it to this ending."""
        way = self.way
        story = {
            COMPLETED: lambda: self.completes((*way.said, *way.told), money_shown=way.type == EVENTS),
            BARE: lambda: self.completes(way.bare),
            LEFT_EARLY: lambda: self.leaves([Stall()], after=0),
            LEFT_LATE: lambda: self.leaves(self.script(way.said, Stall()), after=len(b"".join(way.said))),
            REFUSED: self.is_refused,
            FAILED: self.fails,
            BROKEN: self.breaks,
            TOLD_ERROR: self.hears_of_an_error,
            POOR_END: self.is_cut,
        }
        await story[ending]()

    async def completes(self, pieces: tuple[bytes, ...], *, money_shown: bool = False) -> None:
        """Every byte comes, and beside them the cost."""
        answer, sent = await self.asked(self.script(pieces)), b"".join(pieces)
        assert (answer.status, answer.headers["content-type"]) == (200, self.way.type)
        assert _MONEY.sub(b"", answer.body) == sent
        cost = format_usd(sum(row["amount"] for row in await self.farebox.charges(self.ada.user.id)))
        if self.way.type == JSON:
            assert answer.headers["x-farebox-cost"] == cost
        assert (f'"cost":"{cost}"'.encode() in answer.body) == money_shown

    async def leaves(self, script: list[Step], *, after: int) -> None:
        """The caller hangs up after so many bytes of a stream, or while waiting; the backend is let go."""
        self.backend.answer = script
        call = asyncio.create_task(self.reads(after))
        seen = await self.backend.arrived(self.before + 1)
        if after and self.way.streamed:
            await asyncio.wait_for(call, 30)
        else:
            await until(lambda: seen.sent >= after)
            await asyncio.sleep(0.03)
            call.cancel()
        await asyncio.wait_for(seen.left.wait(), 30)

    async def reads(self, size: int) -> None:
        """Hang up after so many bytes."""
        async with self.opened() as reply:
            await reply.content.readexactly(size or 1)

    async def is_refused(self) -> None:
        """The backend's own refusal goes on as it came."""
        said = {"type": "error", "error": {"type": "invalid_request_error", "message": "No such voice."}}
        answer = await self.asked(json_answer(said, 422))
        assert (answer.status, answer.json()) == (422, said)

    async def fails(self) -> None:
        """A failed backend is a plain reply, and what it said stays here."""
        self.says_no(await self.asked(error(500, "secret stack trace")))

    async def hears_of_an_error(self) -> None:
        """What the backend tells in its stream goes on as it came."""
        sent = b"".join((*self.way.said, self.way.failed))
        assert (await self.asked(self.script((sent,)))).body == sent

    async def breaks(self) -> None:
        """What came has come; then the caller hears of it in the route's words, or sees sound that is not whole."""
        script = self.script(self.way.said, Close())
        if self.way.type == JSON:
            return self.says_no(await self.asked(script))
        if self.way.type == SOUND:
            with pytest.raises(aiohttp.ClientPayloadError):
                await self.asked(script)
            return
        answer, said = await self.asked(script), b"".join(self.way.said)
        assert answer.status == 200 and answer.body.startswith(said)
        self.ends_with_an_error(answer.body[len(said) :], "upstream_error")

    async def is_cut(self) -> None:
        """The answer ends as one that has reached its length; then it is said why."""
        endless = b"".join((*self.way.said, self.way.more * 1000))
        pieces = (endless[at : at + 500] for at in range(0, len(endless), 500))
        answer = await self.asked(self.script(pieces, Stall()))
        delivered, found, end = answer.body.partition(_CUTS.get(self.route, _CUT))
        assert (answer.status, bool(found)) == (200, True)
        words = delivered[: delivered.rindex(b"\n\n", 0, delivered.rindex(b"data: "))]
        assert endless.startswith(words)
        self.delivered = tokens(MORE * words.count(MORE.encode()))
        self.ends_with_an_error(end.partition(b"\n\n")[2], "insufficient_balance")

    def says_no(self, answer: Answer) -> None:
        """A plain 502 in the route's envelope."""
        assert (answer.status, answer.headers["content-type"]) == (502, JSON)
        assert b"secret" not in answer.body
        said = answer.json()
        if self.anthropic:
            assert (said["type"], said["request_id"]) == ("error", answer.headers["request-id"])
        assert said["error"]["type"] == "api_error" and said["error"]["code"] == "upstream_error"
        assert said["error"]["farebox"]["request_id"] == answer.headers["x-request-id"]

    def ends_with_an_error(self, end: bytes, code: str) -> None:
        """One event, and the mark of the end where the route has one."""
        *events, rest = end.lstrip(b"\n").split(b"\n\n")
        assert rest == b""
        if not self.anthropic:
            assert events.pop() == b"data: [DONE]"
        (event,) = events
        *name, data = event.split(b"\n")
        assert name == ([b"event: error"] if self.route in ("responses", "messages") else [])
        said = json.loads(data.removeprefix(b"data: "))
        assert said["error"]["code"] == code
        assert said.get("type") == ("error" if name else None)

    @property
    def anthropic(self) -> bool:
        return self.route.startswith("messages")

    def script(self, pieces: Any, *end: Step) -> list[Step]:
        """A 200 of the way's type with these pieces; without an ``end`` it ends well."""
        headers = (("content-type", self.way.type), ("transfer-encoding", "chunked"))
        return [head(200, headers), *map(chunk, pieces), *(end or [LAST_CHUNK])]

    async def asked(self, script: list[Step]) -> Answer:
        """The whole answer to the call, whose backend plays this."""
        self.backend.answer = script
        async with asyncio.timeout(30), self.opened() as reply:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return Answer(reply.status, headers, await reply.read())

    def opened(self) -> Any:
        surface = BY_ROUTE[self.route]
        body, content_type = self.way.request(f"a-{surface.kind}")
        headers = {**self.ada.headers, "content-type": content_type}
        return self.farebox.http.post(f"{self.farebox.url}/v1{surface.path}", data=body, headers=headers)


_MONEY = re.compile(rb',?"cost":"[0-9.]+","balance":"[0-9.]+"')
_CUT = b'"finish_reason":"length"'
_CUTS = {"responses": b'"reason":"max_output_tokens"', "messages": b'"stop_reason":"max_tokens"'}
