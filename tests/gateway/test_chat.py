"""Chat completions as a surface: what goes to the backend, what of the answer reaches the caller, what it consumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import BadRequest
from gateway.call import parse_chat as parse
from gateway.chat import SURFACE, count, foresee, rewrite, tap, whole
from gateway.counting import EXACT_BYTES_MAX, Counting
from gateway.meter import Reading
from gateway.tokens import Tokenizers
from ledger.usage import Usage, UsageSource
from tests.gateway.words import words

MODEL = Model(id="m", upstream="u", upstream_model="inner")
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"two words"}}]}\n\n'
REPORT = b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


def body(**fields: Any) -> bytes:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    return json.dumps(asked, separators=(",", ":")).encode()


def passed(asked: bytes, stream: bytes = TEXT + REPORT + DONE) -> tuple[bytes, Reading]:
    relay = tap(parse(asked), words, lambda usage: {"cost": "0.01", "balance": "9.99"}, 10_000)
    out = relay.feed(stream) + relay.close() + relay.terminal
    return out, relay.meter.reading(1, words(relay.meter.text()))


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4o", "max_tokens"),
        ("gpt-4.1-mini", "max_tokens"),
        ("llama-3", "max_tokens"),
        ("olmo-2", "max_tokens"),
        ("gpt-5-mini", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
    ],
)
def test_a_bound_is_told_under_the_name_the_model_knows(model: str, field: str) -> None:
    sent = json.loads(rewrite(parse(body()), model, 7))
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {field: 7}
    assert sent["model"] == model
    own = json.loads(rewrite(parse(body(max_tokens=9)), model, 7))
    assert (own["max_tokens"], "max_completion_tokens" in own) == (7, False), "the caller's own word stands"


def test_without_a_bound_and_with_its_own_name_the_body_goes_up_as_it_came() -> None:
    asked = body(max_tokens=9)
    assert rewrite(parse(asked), "m", None) is asked


def test_a_backend_is_asked_for_usage_that_its_caller_does_not_see() -> None:
    asked = body(stream=True)
    assert json.loads(rewrite(parse(asked), "m", None))["stream_options"] == {"include_usage": True}
    assert passed(asked) == (TEXT + DONE, Reading(Usage(input=8, output=3), UsageSource.REPORTED))


def test_a_caller_who_asked_for_usage_sees_the_cost_in_it() -> None:
    out, _ = passed(body(stream=True, stream_options={"include_usage": True}))
    assert out == TEXT + REPORT.replace(b"3}}", b'3,"cost":"0.01","balance":"9.99"}}') + DONE


def test_a_stream_without_usage_is_counted() -> None:
    out, reading = passed(body(stream=True), TEXT + DONE)
    assert (out, reading) == (TEXT + DONE, Reading(Usage(input=1, output=2), UsageSource.COUNTED))


def test_a_whole_reply_is_metered_whatever_it_is() -> None:
    usage = {"prompt_tokens": 8, "completion_tokens": 3}
    reply = {"choices": [{"message": {"content": "two words"}}], "usage": usage, "service_tier": "flex"}
    meter = whole(parse(body()), json.dumps(reply).encode(), "application/json", words)
    assert meter.reading(0, 0) == Reading(Usage(input=8, output=3), UsageSource.REPORTED)
    assert meter.variant == "flex"
    for odd in (b"", b"<html>", b"[" * 100_000):
        assert whole(parse(body()), odd, "text/html", words).reading(4, 0).usage == Usage(input=4)


async def test_a_short_chat_is_foreseen_exactly_and_a_long_one_not_too_low(tmp_path: Path) -> None:
    counting = Counting(Tokenizers.load(tmp_path))
    short = parse(body())
    assert await foresee(short, MODEL, counting) == Usage(input=8) == Usage(input=await count(short, MODEL, counting))
    long = parse(body(messages=[{"role": "user", "content": "hello world " * EXACT_BYTES_MAX}]))
    assert (await foresee(long, MODEL, counting)).input >= await count(long, MODEL, counting) > EXACT_BYTES_MAX


def test_what_is_no_chat_is_refused() -> None:
    for wrong in (b"{}", b"[]", body(messages=None), body(model=None)):
        with pytest.raises(BadRequest):
            parse(wrong)


def test_output_is_reserved_and_charged() -> None:
    assert (SURFACE.path, SURFACE.kind, SURFACE.has_output, SURFACE.free) == ("/chat/completions", "chat", True, False)
