"""The official SDKs of OpenAI and Anthropic, newest ones, on every route they have a method for: what they show of an
answer and of a refusal, and what the call costs, to the nano-USD. Chats and embeddings by their usual methods are in
``test_sdk.py``."""

from __future__ import annotations

import base64
import io
import struct
import wave
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam
from openai import AsyncOpenAI

from ledger.usage import KINDS, UNIT_KINDS, Usage
from tests import house
from tests.backend import LAST_CHUNK, Backend, Close, Step, chunk, error, head, json_answer, plain, stream
from tests.house import Caller, Farebox
from tests.streams import DONE, event

# Nano-USD for each unit: no two kinds can be taken for one another.
_RATES = dict(zip(KINDS, (101, 103, 107, 109, 113, 127, 1009, 1013, 1019, 10007, 10009, 10037, 1021), strict=True))
_KINDS = ("chat", "completion", "embedding", "speech", "transcription", "image", "moderation")
_FUNDS = 10**9


def _priced() -> str:
    """A model of each kind, named after it, at the same prices."""
    rates = [
        f'{kind} = "{Decimal(nano) / (10**9 if kind in UNIT_KINDS else 10**3):f}"' for kind, nano in _RATES.items()
    ]
    prices = ", ".join([*rates, 'per_request = "0.000001"'])
    return "".join(
        f'[[models]]\nid = "a-{kind}"\nupstream = "main"\nkind = "{kind}"\nprices = {{ {prices} }}\n' for kind in _KINDS
    )


_TIER = """[[tiers]]
name = "once"
windows = [{ limit = 1, of = "requests", per = "minute" }]
embeddings_per_request = 1
"""


def _cost(**usage: int) -> int:
    return sum(amount * _RATES[kind] for kind, amount in usage.items()) + 1000


@pytest.fixture(scope="module")
async def backend() -> AsyncIterator[Backend]:
    async with Backend().running() as backend:
        yield backend


@pytest.fixture(scope="module")
async def farebox(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server_url: str, backend: Backend
) -> AsyncIterator[Farebox]:
    """One for all: every test has a caller of its own."""
    folder = tmp_path_factory.mktemp("sdk")
    catalog = _priced() + _TIER
    async with house.farebox(folder, module_database_url, redis_server_url, backend.url, catalog=catalog) as running:
        yield running


@pytest.fixture
async def ada(farebox: Farebox) -> AsyncIterator[Caller]:
    ada = await farebox.caller(usd="1.00")
    yield ada
    assert not await farebox.broken()


def _openai(farebox: Farebox, caller: Caller) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=caller.key, base_url=f"{farebox.url}/v1", max_retries=0)


def _anthropic(farebox: Farebox, caller: Caller) -> AsyncAnthropic:
    return AsyncAnthropic(api_key=caller.key, base_url=farebox.url, max_retries=0)


@pytest.fixture
async def client(farebox: Farebox, ada: Caller) -> AsyncIterator[AsyncOpenAI]:
    async with _openai(farebox, ada) as client:
        yield client


@pytest.fixture
async def claude(farebox: Farebox, ada: Caller) -> AsyncIterator[AsyncAnthropic]:
    async with _anthropic(farebox, ada) as client:
        yield client


async def _paid(farebox: Farebox, ada: Caller, **usage: int) -> None:
    """The caller's only call cost just this."""
    (charge,) = await farebox.charges(ada.user.id)
    assert Usage(**charge["usage"]) == Usage(**usage)
    assert (charge["amount"], charge["outcome"]) == (_cost(**usage), "completed")
    assert await farebox.spendable(ada) == _FUNDS - charge["amount"]


def _named(*values: dict[str, Any]) -> list[Step]:
    """Events with names, as one stream."""
    return stream([f"event: {value['type']}\n".encode() + event(value) for value in values])


def _cost_shown(usage: Any) -> str:
    """The member that Farebox puts into the final usage."""
    return str((usage.model_extra or {})["cost"])


# OpenAI: words ------------------------------------------------------------------------------------------------------

_TOLD = {"prompt_tokens": 41, "completion_tokens": 17, "total_tokens": 58}


async def test_a_completion(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    choice = {"index": 0, "text": "brown fox", "finish_reason": "stop", "logprobs": None}
    backend.answer = json_answer({"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": _TOLD})
    answer = await client.completions.create(model="a-completion", prompt="The quick", max_tokens=20)
    assert answer.choices[0].text == "brown fox"
    await _paid(farebox, ada, input=41, output=17)


async def test_a_streamed_completion(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    words = [event({"id": "cmpl-1", "choices": [{"index": 0, "text": text}]}) for text in ("brown ", "fox")]
    backend.answer = stream([*words, event({"id": "cmpl-1", "choices": [], "usage": _TOLD}), DONE])
    answer = await client.completions.create(
        model="a-completion", prompt="The quick", stream=True, stream_options={"include_usage": True}
    )
    chunks = [each async for each in answer]
    assert "".join(each.choices[0].text for each in chunks if each.choices) == "brown fox"
    assert chunks[-1].usage is not None and _cost_shown(chunks[-1].usage) == "0.000022294"
    await _paid(farebox, ada, input=41, output=17)


_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "a-chat",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 41,
        "input_tokens_details": {"cached_tokens": 13},
        "output_tokens": 17,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 58,
    },
}
_RESPONSE_COST = {"input": 28, "cache_read": 13, "output": 10, "reasoning": 7}


async def test_a_response(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer(_RESPONSE)
    answer = await client.responses.create(model="a-chat", input="hello")
    assert answer.output_text == "Hello"
    assert backend.requests[-1].json["store"] is False
    await _paid(farebox, ada, **_RESPONSE_COST)


def _spoken_response() -> list[Step]:
    begun = {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return _named(
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item},
        {"type": "response.content_part.added", "sequence_number": 2, **at, "part": part},
        {"type": "response.output_text.delta", "sequence_number": 3, **at, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", "sequence_number": 4, **at, "delta": "lo", "logprobs": []},
        {"type": "response.completed", "sequence_number": 5, "response": _RESPONSE},
    )


async def test_a_streamed_response(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = _spoken_response()
    events = [each async for each in await client.responses.create(model="a-chat", input="hello", stream=True)]
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == "Hello"
    assert events[-1].type == "response.completed" and events[-1].response.usage is not None
    assert _cost_shown(events[-1].response.usage) == "0.000022348"
    await _paid(farebox, ada, **_RESPONSE_COST)


async def test_a_response_put_together_by_the_sdk(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    backend.answer = _spoken_response()
    async with client.responses.stream(model="a-chat", input="hello") as answer:
        final = await answer.get_final_response()
    assert final.output_text == "Hello" and final.usage is not None and final.usage.total_tokens == 58
    await _paid(farebox, ada, **_RESPONSE_COST)


async def test_embeddings_in_the_sdks_own_encoding(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    """It asks for base64 by itself, and for token ids where it is given some."""
    vector = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    usage = {"prompt_tokens": 41, "total_tokens": 41}
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    backend.answer = json_answer({"object": "list", "model": "a-embedding", "data": data, "usage": usage})
    answer = await client.embeddings.create(model="a-embedding", input=[[1, 2, 3]])
    assert answer.data[0].embedding == [0.5, -1.0]
    assert backend.requests[-1].json["encoding_format"] == "base64"
    await _paid(farebox, ada, input=41)


async def test_moderation(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    result = {"flagged": True, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    backend.answer = json_answer({"id": "modr-1", "model": "a-moderation", "results": [result]})
    answer = await client.moderations.create(model="a-moderation", input="something")
    assert answer.results[0].flagged
    await _paid(farebox, ada)


# OpenAI: sound ------------------------------------------------------------------------------------------------------

_SOUND = b"ID3\4" + bytes(range(256)) * 8
_SPOKEN = "Grüezi 👋 you"


async def test_speech(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = plain(_SOUND, content_type="audio/mpeg")
    answer = await client.audio.speech.create(model="a-speech", voice="alloy", input=_SPOKEN)
    assert answer.content == _SOUND
    await _paid(farebox, ada, characters=12)


async def test_speech_as_it_comes(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    kind = (("content-type", "audio/mpeg"), ("transfer-encoding", "chunked"))
    backend.answer = [head(200, kind), chunk(_SOUND[:700]), chunk(_SOUND[700:]), LAST_CHUNK]
    asked = client.audio.speech.with_streaming_response.create(model="a-speech", voice="alloy", input=_SPOKEN)
    async with asked as answer:
        assert b"".join([piece async for piece in answer.iter_bytes()]) == _SOUND
    await _paid(farebox, ada, characters=12)


async def test_speech_in_events_is_charged_by_its_tokens(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    said = {"type": "speech.audio.delta", "audio": base64.b64encode(_SOUND).decode()}
    backend.answer = stream([event(said), event({"type": "speech.audio.done", "usage": usage})])
    answer = await client.audio.speech.create(model="a-speech", voice="alloy", input=_SPOKEN, stream_format="sse")
    assert said["audio"].encode() in answer.content and b"speech.audio.done" in answer.content
    await _paid(farebox, ada, input=14, audio_out=101)


def _wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(16_000 * seconds)))
    return file.getvalue()


_FILE = ("note.wav", _wav(2.5))
_HEARD = {
    "type": "tokens",
    "input_tokens": 41,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 37},
    "output_tokens": 17,
    "total_tokens": 58,
}


async def test_a_transcription_by_tokens(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"text": "Hello.", "usage": _HEARD})
    answer = await client.audio.transcriptions.create(model="a-transcription", file=_FILE)
    assert answer.text == "Hello."
    assert _FILE[1] in backend.requests[-1].body, "the file goes on as it came"
    await _paid(farebox, ada, input=4, audio_in=37, output=17)


async def test_a_long_recording_goes_by_way_of_the_disk_and_arrives_whole(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    sound, backend.answer = _wav(60), json_answer({"text": "Hello."})
    answer = await client.audio.transcriptions.create(model="a-transcription", file=("talk.wav", sound), language="en")
    assert answer.text == "Hello."
    assert sound in backend.requests[-1].body
    await _paid(farebox, ada, seconds=60)


async def test_a_transcription_by_seconds(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"text": "Hello.", "usage": {"type": "duration", "seconds": 2.5}})
    await client.audio.transcriptions.create(model="a-transcription", file=_FILE)
    await _paid(farebox, ada, seconds=3)


async def test_subtitles_cost_the_files_playing_time(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    subtitles = "1\n00:00:00,000 --> 00:00:02,500\nHello.\n"
    backend.answer = plain(subtitles.encode(), content_type="text/plain")
    answer = await client.audio.transcriptions.create(model="a-transcription", file=_FILE, response_format="srt")
    assert answer == subtitles
    await _paid(farebox, ada, seconds=3)


async def test_a_streamed_transcription(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    delta = {"type": "transcript.text.delta", "delta": "Hello."}
    backend.answer = stream([event(delta), event({"type": "transcript.text.done", "text": "Hello.", "usage": _HEARD})])
    answer = await client.audio.transcriptions.create(model="a-transcription", file=_FILE, stream=True)
    assert [each.type async for each in answer] == ["transcript.text.delta", "transcript.text.done"]
    await _paid(farebox, ada, input=4, audio_in=37, output=17)


async def test_a_translation(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"task": "translate", "language": "english", "duration": 2.5, "text": "Hello."})
    with pytest.deprecated_call():
        asked = client.audio.translations.create(model="a-transcription", file=_FILE)
    answer = await asked
    assert answer.text == "Hello."
    assert backend.requests[-1].path == "/v1/audio/translations"
    await _paid(farebox, ada, seconds=3)


# OpenAI: pictures ---------------------------------------------------------------------------------------------------

_PICTURE = {"b64_json": "AAAA"}
_DRAWN = {
    "input_tokens": 41,
    "input_tokens_details": {"text_tokens": 4, "image_tokens": 37},
    "output_tokens": 17,
    "total_tokens": 58,
}


async def test_pictures(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"created": 1, "data": [_PICTURE] * 2})
    answer = await client.images.generate(model="a-image", prompt="a lighthouse", n=2, size="1024x1024")
    assert [each.b64_json for each in answer.data or ()] == ["AAAA"] * 2
    await _paid(farebox, ada, images=2)


async def test_a_picture_as_it_is_drawn(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    partial = {"type": "image_generation.partial_image", "partial_image_index": 0, **_PICTURE}
    done = {"type": "image_generation.completed", **_PICTURE, "usage": _DRAWN}
    backend.answer = _named(partial, done)
    answer = await client.images.generate(model="a-image", prompt="a lighthouse", stream=True, partial_images=1)
    assert [each.type async for each in answer] == [partial["type"], done["type"]]
    await _paid(farebox, ada, input=4, image_in=37, output=17)


async def test_a_changed_picture(client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"created": 1, "data": [_PICTURE], "usage": _DRAWN})
    pictures = [("a.png", b"\x89PNG one"), ("b.png", b"\x89PNG two")]
    answer = await client.images.edit(model="a-image", image=pictures, prompt="at night")
    assert answer.usage is not None and answer.usage.total_tokens == 58
    assert b"\x89PNG one" in backend.requests[-1].body and b"\x89PNG two" in backend.requests[-1].body
    await _paid(farebox, ada, input=4, image_in=37, output=17)


# Anthropic ----------------------------------------------------------------------------------------------------------

_HELLO: MessageParam = {"role": "user", "content": "hello"}
_READ = {
    "input_tokens": 28,
    "cache_read_input_tokens": 13,
    "cache_creation_input_tokens": 12,
    "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 5},
}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "a-chat", "stop_sequence": None}
_MESSAGE_COST = {"input": 28, "cache_read": 13, "cache_write": 7, "cache_write_1h": 5, "output": 17}


async def test_a_message(claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    said = {"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}
    backend.answer = json_answer({**_MESSAGE, **said, "usage": {**_READ, "output_tokens": 17}})
    answer = await claude.messages.create(model="a-chat", max_tokens=100, messages=[_HELLO])
    assert answer.content[0].type == "text" and answer.content[0].text == "Hello"
    assert backend.requests[-1].header("anthropic-version") == claude.default_headers["anthropic-version"]
    await _paid(farebox, ada, **_MESSAGE_COST)


def _spoken_message(*end: dict[str, Any]) -> list[Step]:
    begun: dict[str, Any] = {**_MESSAGE, "content": [], "stop_reason": None, "usage": {**_READ, "output_tokens": 1}}
    stopped = {"stop_reason": "end_turn", "stop_sequence": None}
    return _named(
        {"type": "message_start", "message": begun},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        *(
            end
            or ({"type": "message_delta", "delta": stopped, "usage": {"output_tokens": 17}}, {"type": "message_stop"})
        ),
    )


async def test_a_streamed_message(claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = _spoken_message()
    answer = await claude.messages.create(model="a-chat", max_tokens=100, messages=[_HELLO], stream=True)
    events = [each async for each in answer]
    assert [each.type for each in events][-2:] == ["message_delta", "message_stop"]
    last = events[-2]
    assert last.type == "message_delta" and _cost_shown(last.usage) == "0.000023614"
    await _paid(farebox, ada, **_MESSAGE_COST)


async def test_a_message_put_together_by_the_sdk(
    claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    backend.answer = _spoken_message()
    async with claude.messages.stream(model="a-chat", max_tokens=100, messages=[_HELLO]) as answer:
        assert "".join([text async for text in answer.text_stream]) == "Hello"
        final = await answer.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens, final.stop_reason) == (28, 17, "end_turn")
    await _paid(farebox, ada, **_MESSAGE_COST)


async def test_counting_tokens_is_free(claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend) -> None:
    backend.answer = json_answer({"input_tokens": 9})
    assert (await claude.messages.count_tokens(model="a-chat", messages=[_HELLO])).input_tokens == 9
    assert await farebox.charges(ada.user.id) == []
    assert await farebox.spendable(ada) == _FUNDS


# Refusals, as the SDKs show them ------------------------------------------------------------------------------------


async def _openai_calls(client: AsyncOpenAI, model: str = "a-{}") -> list[Any]:
    """A call on every route, not yet awaited."""
    a = model.format
    return [
        client.completions.create(model=a("completion"), prompt="hello"),
        client.responses.create(model=a("chat"), input="hello"),
        client.responses.create(model=a("chat"), input="hello", stream=True),
        client.embeddings.create(model=a("embedding"), input="hello"),
        client.moderations.create(model=a("moderation"), input="hello"),
        client.audio.speech.create(model=a("speech"), voice="alloy", input="hello"),
        client.audio.transcriptions.create(model=a("transcription"), file=_FILE),
        client.images.generate(model=a("image"), prompt="hello"),
        client.images.edit(model=a("image"), image=_FILE, prompt="hello"),
    ]


async def _anthropic_calls(client: AsyncAnthropic, model: str = "a-chat") -> list[Any]:
    return [
        client.messages.create(model=model, max_tokens=100, messages=[_HELLO]),
        client.messages.create(model=model, max_tokens=100, messages=[_HELLO], stream=True),
    ]


async def _refused(calls: list[Any], kind: type[Exception]) -> list[Any]:
    """What each call raises."""
    raised = []
    for call in calls:
        with pytest.raises(kind) as refused:
            await call
        raised.append(refused.value)
    return raised


async def test_without_money_every_route_says_402(farebox: Farebox, backend: Backend) -> None:
    bob, before = await farebox.caller(usd="0"), len(backend.requests)
    async with _openai(farebox, bob) as client, _anthropic(farebox, bob) as claude:
        for said in await _refused(await _openai_calls(client), openai.APIStatusError):
            assert (said.status_code, said.code, said.type) == (402, "insufficient_balance", "insufficient_quota")
            assert house.PERSONAL in said.message
        for other in await _refused(await _anthropic_calls(claude), anthropic.APIStatusError):
            assert (other.status_code, _anthropic_error(other)) == (402, ("billing_error", "insufficient_balance"))
            assert other.request_id == other.response.headers["x-request-id"]
    assert len(backend.requests) == before and await farebox.charges(bob.user.id) == []


async def test_a_limit_is_a_rate_limit_error_with_its_wait(farebox: Farebox, backend: Backend) -> None:
    eve, before = await farebox.caller(tier="once", usd="1.00"), len(backend.requests)
    embedded = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    backend.then(
        json_answer({"input_tokens": 9}), json_answer({**embedded, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    )
    async with _openai(farebox, eve) as client, _anthropic(farebox, eve) as claude:
        await claude.messages.count_tokens(model="a-chat", messages=[_HELLO])
        await client.embeddings.create(model="a-embedding", input="x")  # these are counted beside the others
        for said in await _refused(await _openai_calls(client), openai.RateLimitError):
            assert (said.code, said.type) == ("rate_limit_requests", "rate_limit_error")
            assert 0 < int(said.response.headers["retry-after"]) <= 61
        for other in await _refused(await _anthropic_calls(claude), anthropic.RateLimitError):
            assert _anthropic_error(other) == ("rate_limit_error", "rate_limit_requests")
            assert 0 < int(other.response.headers["retry-after"]) <= 61
    assert len(backend.requests) == before + 2 and len(await farebox.charges(eve.user.id)) == 1


async def test_a_model_that_is_not_there_is_not_found(
    client: AsyncOpenAI, claude: AsyncAnthropic, farebox: Farebox, ada: Caller
) -> None:
    for said in await _refused(await _openai_calls(client, "no-{}"), openai.NotFoundError):
        assert (said.code, said.type, said.param) == ("model_not_found", "invalid_request_error", "model")
    for other in await _refused(await _anthropic_calls(claude, "nothing"), anthropic.NotFoundError):
        assert _anthropic_error(other) == ("not_found_error", "model_not_found")
    assert await farebox.charges(ada.user.id) == []


async def test_a_route_that_nobody_meters_is_not_found(client: AsyncOpenAI, backend: Backend) -> None:
    before = len(backend.requests)
    with pytest.raises(openai.NotFoundError) as refused:
        await client.batches.create(completion_window="24h", endpoint="/v1/responses", input_file_id="file-1")
    assert refused.value.code == "route_not_metered"
    assert len(backend.requests) == before


def _anthropic_error(raised: anthropic.APIStatusError) -> tuple[str, str]:
    """Type and code of the error that its body holds."""
    body: Any = raised.body
    assert body["type"] == "error" and body["error"]["message"] in raised.message
    return body["error"]["type"], body["error"]["code"]


# Answers that break off ---------------------------------------------------------------------------------------------


def _without_end(script: list[Step]) -> list[Step]:
    """Only its head and first three events; then the backend hangs up."""
    return [*script[:4], Close()]


async def test_a_response_that_breaks_off_is_an_error(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    backend.answer = _without_end(_spoken_response())
    answer = await client.responses.create(model="a-chat", input="hello", stream=True)
    with pytest.raises(openai.APIError) as failed:
        async for _ in answer:
            pass
    assert failed.value.code == "upstream_error"


async def test_a_message_that_breaks_off_is_an_error(
    claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    backend.answer = _without_end(_spoken_message())
    answer = await claude.messages.create(model="a-chat", max_tokens=100, messages=[_HELLO], stream=True)
    with pytest.raises(anthropic.APIStatusError) as failed:
        async for _ in answer:
            pass
    assert _anthropic_error(failed.value) == ("api_error", "upstream_error")
    (charge,) = await farebox.charges(ada.user.id)
    assert charge["outcome"] == "upstream_error" and charge["usage"]["input"] == 28


async def test_sound_that_breaks_off_does_not_look_whole(
    client: AsyncOpenAI, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    backend.answer = [*plain(_SOUND, content_type="audio/mpeg")[:1], _SOUND[:700], Close()]
    with pytest.raises(openai.APIConnectionError):
        await client.audio.speech.create(model="a-speech", voice="alloy", input=_SPOKEN)
    (charge,) = await farebox.charges(ada.user.id)
    assert (charge["outcome"], charge["amount"]) == ("upstream_error", _cost(characters=12))


async def test_a_failed_backend_is_the_sdks_internal_server_error(
    client: AsyncOpenAI, claude: AsyncAnthropic, farebox: Farebox, ada: Caller, backend: Backend
) -> None:
    answers = [*await _openai_calls(client)]
    backend.answer = error(500, "secret")
    for said in await _refused(answers, openai.InternalServerError):
        assert (said.status_code, said.code) == (502, "upstream_error") and "secret" not in said.message
    others = await _anthropic_calls(claude)
    for other in await _refused(others, anthropic.InternalServerError):
        assert _anthropic_error(other) == ("api_error", "upstream_error") and "secret" not in other.message
    assert await farebox.charges(ada.user.id) == []
