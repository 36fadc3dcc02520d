"""A backend that does not say what was used: it is counted here, exactly, and marked so. What is said, stands."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from tests.backend import Backend, chat, json_answer
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, HELLO_TOKENS, SMALL, delta, event, stream, tokens

_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "What the sky does in a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]


def _picture(width: int, height: int) -> str:
    """As much of a PNG as tells its size."""
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(64)
    return "data:image/png;base64," + base64.b64encode(header).decode()


@pytest.mark.parametrize("streamed", [False, True])
async def test_text_is_counted_both_ways(streamed: bool, farebox: Farebox, backend: Backend) -> None:
    words = ["Grüße ", "aus ", "Überlingen, ", "你好 ", "and good night"]
    backend.answer = chat(words, usage={})
    asked = "How do you say good night? " * 20
    assert (await farebox.chat(await farebox.caller(), asked, stream=streamed)).status == 200
    charge = await farebox.charge()
    expected = {"input": HELLO_TOKENS - 1 + tokens(asked), "output": tokens("".join(words))}
    assert (charge["usage"], charge["usage_source"]) == (expected, "counted")
    assert charge["amount"] == sum(count * SMALL[kind] for kind, count in expected.items())
    assert not await farebox.broken()


async def test_a_long_question_is_counted_exactly_when_nobody_else_says(farebox: Farebox, backend: Backend) -> None:
    """Its hold was made from its bytes; its charge is not."""
    backend.answer = chat(["fine"], usage={})
    asked = "The quick brown fox jumps over the lazy dog. " * 1200
    assert (await farebox.chat(await farebox.caller(), asked)).status == 200
    assert (await farebox.charge())["usage"] == {"input": HELLO_TOKENS - 1 + tokens(asked), "output": tokens("fine")}


async def test_tools_and_their_calls_are_counted(farebox: Farebox, backend: Backend) -> None:
    backend.answer = chat(tools=[{"name": "weather", "arguments": '{"town": "Ulm"}'}], usage={})
    assert (await farebox.chat(await farebox.caller(), tools=_TOOLS, stream=True)).status == 200
    shown = tokens(json.dumps(_TOOLS, separators=(",", ":")))
    called = tokens('weather{"town": "Ulm"}')
    assert (await farebox.charge())["usage"] == {"input": HELLO_TOKENS + shown, "output": called}


async def test_images_are_counted_by_their_size(farebox: Farebox, backend: Backend) -> None:
    """By the tile rule: 85, and 170 for each tile of 512; low detail is flat."""
    backend.answer = chat(["a fox"], usage={})
    content = [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": _picture(1024, 1024)}},
        {"type": "image_url", "image_url": {"url": _picture(1024, 1024), "detail": "low"}},
    ]
    ada = await farebox.caller()
    body = {"model": "small", "messages": [{"role": "user", "content": content}]}
    assert (await farebox.post("/v1/chat/completions", body, ada)).status == 200
    pictures = (85 + 4 * 170) + 85
    assert (await farebox.charge())["usage"] == {"input": HELLO_TOKENS + pictures, "output": tokens("a fox")}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_explicit_zero_is_zero(streamed: bool, farebox: Farebox, backend: Backend) -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    backend.answer = chat(usage=zero)
    ada = await farebox.caller(usd="1.00")
    assert (await farebox.chat(ada, stream=streamed)).status == 200
    charge = await farebox.charge()
    assert (charge["amount"], charge["usage_source"]) == (0, "reported")
    assert await farebox.spendable(ada) == 10**9
    assert not await farebox.broken()


async def test_of_cumulative_reports_the_largest_of_each_number_counts(farebox: Farebox, backend: Backend) -> None:
    reports = [(9, 1), (9, 7), (9, 5)]
    frames = [
        event(
            {
                "choices": [{"index": 0, "delta": {"content": "x"}}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output},
            }
        )
        for prompt, output in reports
    ]
    backend.answer = script([*frames, DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        assert await reply.read() == b"".join([*frames, DONE])
    charge = await farebox.charge()
    assert (charge["usage"], charge["usage_source"]) == ({"input": 9, "output": 7}, "reported")


@pytest.mark.parametrize("streamed", [False, True])
async def test_usage_is_one_for_all_choices(streamed: bool, farebox: Farebox, backend: Backend) -> None:
    backend.answer = chat(usage={"prompt_tokens": 11, "completion_tokens": 8, "total_tokens": 19})
    assert (await farebox.chat(await farebox.caller(), n=3, stream=streamed)).status == 200
    charge = await farebox.charge()
    assert (charge["usage"], charge["usage_source"]) == ({"input": 11, "output": 8}, "reported")


@pytest.mark.parametrize("streamed", [False, True])
async def test_usage_of_one_choice_does_not_make_the_others_free(
    streamed: bool, farebox: Farebox, backend: Backend
) -> None:
    """llama.cpp reports so."""
    words = ["word "] * 40
    backend.answer = chat(words, usage={"prompt_tokens": 11, "completion_tokens": 40, "total_tokens": 51})
    assert (await farebox.chat(await farebox.caller(), n=3, stream=streamed)).status == 200
    charge = await farebox.charge()
    assert charge["usage"]["input"] == 11
    assert charge["usage"]["output"] == pytest.approx(3 * tokens("word " * 40), rel=0.2)
    assert (charge["usage_source"], charge["problems"]) == ("counted", ["usage_of_one_choice"])
    assert not await farebox.broken()


async def test_without_usage_all_choices_are_counted(farebox: Farebox, backend: Backend) -> None:
    backend.answer = chat(["one two three"], usage={})
    assert (await farebox.chat(await farebox.caller(), n=3)).status == 200
    assert (await farebox.charge())["usage"] == {"input": HELLO_TOKENS, "output": 3 * tokens("one two three")}


async def test_text_after_the_last_report_is_not_free(farebox: Farebox, backend: Backend) -> None:
    said = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    early = event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": said})
    backend.answer = script([early, delta(" and then much more of it", "stop"), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        await reply.read()
    charge = await farebox.charge()
    expected = {"input": 9, "output": tokens("x and then much more of it")}
    assert (charge["usage"], charge["usage_source"]) == (expected, "counted")


async def test_embeddings_without_usage_are_counted(farebox: Farebox, backend: Backend) -> None:
    backend.answer = json_answer({"object": "list", "data": [{"embedding": [0.5]}]})
    body = {"model": "embed", "input": ["good morning", "good night"]}
    assert (await farebox.post("/v1/embeddings", body, await farebox.caller())).status == 200
    charge = await farebox.charge()
    assert charge["usage"] == {"input": tokens("good morning") + tokens("good night")}
    assert charge["usage_source"] == "counted"


async def test_what_a_backend_reports_corrects_the_next_estimates_and_is_shown(
    farebox: Farebox, backend: Backend
) -> None:
    """Its tokenizer makes three tokens where ours makes one: after five calls the holds know."""
    ada = await farebox.caller()
    question = "word " * 200
    backend.answer = chat(usage={"prompt_tokens": 621, "completion_tokens": 1, "total_tokens": 622})
    for _ in range(5):
        assert (await farebox.chat(ada, question)).status == 200
    metrics = (await farebox.get("/metrics")).body.decode()
    ratio = float(metrics.split('farebox_estimate_ratio{model="small"} ')[1].split("\n")[0])
    assert 2.5 < ratio < 3.5
