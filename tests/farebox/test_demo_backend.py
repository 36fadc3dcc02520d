"""The demo backend over its socket, with the SDK its callers use."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest

from farebox import demo_answers, demo_backend

QUESTION: list[Any] = [{"role": "user", "content": "What does it cost?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    backend = await demo_backend.start(pace_s=0)
    async with openai.AsyncOpenAI(base_url=backend.url, api_key="any", max_retries=0) as client:
        yield client
    await backend.stop()


async def collected(stream: Any) -> list[Any]:
    async with asyncio.timeout(30):
        return [chunk async for chunk in stream]


async def test_its_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo-small", "demo-large", "demo-embed"]


async def test_a_whole_answer_reports_what_its_rule_counts(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="demo-small", messages=QUESTION)
    text = reply.choices[0].message.content or ""
    assert text == demo_answers.answer("What does it cost?")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5 + 3, demo_answers.count(text))
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


async def test_a_stream_says_the_same_and_its_last_chunk_is_the_usage(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="demo-large", messages=QUESTION)
    chunks = await collected(
        await client.chat.completions.create(
            model="demo-large", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)


async def test_usage_is_not_streamed_unasked(client: openai.AsyncOpenAI) -> None:
    chunks = await collected(await client.chat.completions.create(model="demo-small", messages=QUESTION, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_ends_at_the_most_that_was_asked_for(client: openai.AsyncOpenAI, name: str) -> None:
    most: Any = {name: 4}
    reply = await client.chat.completions.create(model="demo-small", messages=QUESTION, **most)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == demo_answers.count(reply.choices[0].message.content or "") == 4


async def test_every_choice_is_sent_and_counted(client: openai.AsyncOpenAI) -> None:
    one = await client.chat.completions.create(model="demo-small", messages=QUESTION)
    two = await client.chat.completions.create(model="demo-small", messages=QUESTION, n=2)
    assert one.usage is not None and two.usage is not None
    assert len(two.choices) == 2
    assert two.usage.completion_tokens == 2 * one.usage.completion_tokens
    chunks = await collected(
        await client.chat.completions.create(model="demo-small", messages=QUESTION, n=2, stream=True)
    )
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


async def test_a_tool_that_is_insisted_on_is_called(client: openai.AsyncOpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    reply = await client.chat.completions.create(
        model="demo-small", messages=QUESTION, tools=[TOOL], tool_choice=choice
    )
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.tool_calls is not None
    call: Any = reply.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "demo city"})
    assert reply.usage is not None
    assert reply.usage.completion_tokens == demo_answers.count(call.function.arguments)
    assert reply.usage.prompt_tokens > 20


async def test_a_tool_call_is_streamed_too(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo-small", messages=QUESTION, tools=[TOOL], tool_choice="required", stream=True
    )
    chunks = await collected(stream)
    assert [call.function.name for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []] == [
        "get_weather"
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_tool_on_offer_is_not_used(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="demo-small", messages=QUESTION, tools=[TOOL])
    assert reply.choices[0].finish_reason == "stop"


async def test_parts_of_a_message_are_read_as_text(client: openai.AsyncOpenAI) -> None:
    parts: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What does it cost?"}]}]
    reply = await client.chat.completions.create(model="demo-small", messages=parts)
    assert reply.choices[0].message.content == demo_answers.answer("What does it cost?")


async def test_embeddings_are_one_vector_an_input_with_its_tokens_counted(client: openai.AsyncOpenAI) -> None:
    reply = await client.embeddings.create(model="demo-embed", input=["one two", "one two", "three"])
    assert [len(row.embedding) for row in reply.data] == [demo_backend.DIMENSIONS] * 3
    assert reply.data[0].embedding == reply.data[1].embedding != reply.data[2].embedding
    assert reply.usage.prompt_tokens == 5


@pytest.mark.parametrize(("given", "rows", "tokens"), [("one two", 1, 2), ([7, 8, 9], 1, 3), ([[7], [8, 9]], 2, 3)])
async def test_embeddings_take_one_text_and_token_arrays(
    client: openai.AsyncOpenAI, given: Any, rows: int, tokens: int
) -> None:
    reply = await client.embeddings.create(model="demo-embed", input=given)
    assert (len(reply.data), reply.usage.prompt_tokens) == (rows, tokens)


@pytest.mark.parametrize("wrong", [{"model": "gpt-9"}, {"n": 17}, {"n": -1}, {"messages": [{"content": "no role"}]}])
async def test_a_wrong_request_is_told_so(client: openai.AsyncOpenAI, wrong: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "demo-small", "messages": QUESTION, **wrong}
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(**asked)


async def test_a_stream_stops_when_its_caller_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator of the stream is closed long before its last token."""
    said: list[str] = []
    ended = asyncio.Event()
    real = demo_backend._stream

    async def watched(*args: Any) -> AsyncIterator[bytes]:
        try:
            async for piece in real(*args):
                said.append(msgspec.json.encode(piece.decode()).decode())
                yield piece
        finally:
            ended.set()

    monkeypatch.setattr(demo_backend, "_stream", watched)
    backend = await demo_backend.start(pace_s=0.02)
    async with openai.AsyncOpenAI(base_url=backend.url, api_key="any", max_retries=0) as client:
        stream = await client.chat.completions.create(model="demo-large", messages=QUESTION, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await asyncio.wait_for(ended.wait(), 30)
    await backend.stop()
    assert len(said) < demo_answers.count(demo_answers.answer("What does it cost?", longer=True))


async def test_stopping_ends_an_open_stream_and_frees_the_port() -> None:
    backend = await demo_backend.start(pace_s=30)
    async with openai.AsyncOpenAI(base_url=backend.url, api_key="any", max_retries=0) as client:
        stream = await client.chat.completions.create(model="demo-small", messages=QUESTION, stream=True)
        await anext(aiter(stream))
        await asyncio.wait_for(backend.stop(), 30)
        await stream.close()
    port = int(backend.url.rpartition(":")[2].removesuffix("/v1"))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_taken_port_is_said_at_once() -> None:
    backend = await demo_backend.start()
    port = int(backend.url.rpartition(":")[2].removesuffix("/v1"))
    with pytest.raises(OSError):
        await demo_backend.start(port=port)
    await backend.stop()
