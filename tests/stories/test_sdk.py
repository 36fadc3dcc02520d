"""The official OpenAI SDK sees what it expects, and every call costs its usage times its price, to the nano-USD."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam

from tests.backend import Backend, Cut, chat, embeddings, error
from tests.backend import stream as script
from tests.house import Caller, Farebox
from tests.streams import LARGE, SMALL, delta

_ASKED: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}
_TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
async def ada(farebox: Farebox) -> Caller:
    return await farebox.caller(usd="5.00")


@pytest.fixture
async def client(farebox: Farebox, ada: Caller) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=ada.key, base_url=f"{farebox.url}/v1", max_retries=0) as client:
        yield client


async def test_a_chat(client: AsyncOpenAI, farebox: Farebox, ada: Caller) -> None:
    answer = await client.chat.completions.create(model="small", messages=[_ASKED])
    assert answer.choices[0].message.content == "Hello, world"
    assert answer.usage is not None
    charge = await farebox.charge()
    expected = answer.usage.prompt_tokens * SMALL["input"] + answer.usage.completion_tokens * SMALL["output"]
    assert (charge["amount"], charge["user_id"]) == (expected, ada.user.id)
    assert await farebox.spendable(ada) == 5 * 10**9 - expected


async def test_a_streamed_chat_with_usage(client: AsyncOpenAI, farebox: Farebox) -> None:
    stream = await client.chat.completions.create(
        model="large",
        messages=[_ASKED],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello, world"
    usage = chunks[-1].usage
    assert usage is not None
    charge = await farebox.charge()
    assert charge["amount"] == usage.prompt_tokens * LARGE["input"] + usage.completion_tokens * LARGE["output"]
    assert usage.model_extra is not None and usage.model_extra["cost"] == "0.0000575"


async def test_tools(client: AsyncOpenAI, farebox: Farebox, backend: Backend) -> None:
    backend.answer = chat(tools=[{"name": "weather", "arguments": '{"town": "Ulm"}'}])
    answer = await client.chat.completions.create(model="small", messages=[_ASKED], tools=[_TOOL])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"town": "Ulm"}')
    stream = await client.chat.completions.create(model="small", messages=[_ASKED], tools=[_TOOL], stream=True)
    (part,) = [part async for chunk in stream for part in chunk.choices[0].delta.tool_calls or []]
    assert part.function is not None
    assert (part.function.name, part.function.arguments) == ("weather", '{"town": "Ulm"}')
    assert [seen.json["tools"] for seen in backend.requests] == [[_TOOL], [_TOOL]]
    assert {charge["amount"] for charge in await farebox.charges()} == {11 * SMALL["input"] + 3 * SMALL["output"]}


async def test_several_choices(client: AsyncOpenAI, farebox: Farebox, backend: Backend) -> None:
    said = {"prompt_tokens": 11, "completion_tokens": 6, "total_tokens": 17}
    backend.answer = chat(usage=said)
    answer = await client.chat.completions.create(model="small", messages=[_ASKED], n=2)
    assert [choice.message.content for choice in answer.choices] == ["Hello, world"] * 2
    assert (await farebox.charge())["amount"] == 11 * SMALL["input"] + 6 * SMALL["output"]


async def test_models(client: AsyncOpenAI) -> None:
    assert {model.id async for model in client.models.list()} >= {"small", "large"}
    assert (await client.models.retrieve("small")).id == "small"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nothing")


async def test_embeddings(client: AsyncOpenAI, farebox: Farebox, backend: Backend) -> None:
    backend.answer = embeddings()
    answer = await client.embeddings.create(model="embed", input=["one", "two"], encoding_format="float")
    assert [row.embedding for row in answer.data] == [[0.5] * 4] * 2
    assert (await farebox.charge())["amount"] == answer.usage.prompt_tokens * 20 == 280


async def test_refusals_are_the_exceptions_it_knows(client: AsyncOpenAI, farebox: Farebox, backend: Backend) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nothing", messages=[_ASKED])
    assert (missing.value.code, missing.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-wrong").models.list()
    backend.answer = error(500, "no")
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="small", messages=[_ASKED])
    assert failed.value.status_code == 502
    assert await farebox.charges() == []


async def test_a_cut_stream_is_an_error_to_it(client: AsyncOpenAI, farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("one")], end=False), Cut()]
    stream = await client.chat.completions.create(model="small", messages=[_ASKED], stream=True)
    with pytest.raises(openai.APIError) as failed:
        async for _ in stream:
            pass
    assert failed.value.code == "upstream_error"
    assert (await farebox.charge())["outcome"] == "upstream_error"
