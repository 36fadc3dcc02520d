"""Text completions: what may be asked, what goes to the backend, what its answers consume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import BadRequest
from gateway.completions import OUTPUT_UNTOLD, SURFACE, parse, rewrite, tap, whole_reply
from gateway.counting import Counting
from gateway.meter import Reading
from gateway.tokens import Tokenizers
from ledger.usage import Usage, UsageSource

HERE = Path(__file__).parent.parent / "recordings" / "completions"
MODEL = Model(id="m", upstream="u", upstream_model="gpt-5", kind="completion")


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "Say hi"} | fields, separators=(",", ":")).encode()


def framed(name: str) -> bytes:
    lines = (HERE / f"{name}.jsonl").read_bytes().splitlines()
    return b"".join(b"data: " + line + b"\n\n" for line in [*lines, b"[DONE]"])


def passed(asked: bytes, stream: bytes) -> tuple[bytes, Reading]:
    relay = tap(parse(asked), len, lambda _: None, 10_000)
    out = relay.feed(stream) + relay.close() + relay.terminal
    return out, relay.meter.reading(0, len(relay.meter.text()))


def test_an_untold_bound_is_the_apis_own() -> None:
    assert parse(body()).asked_output == OUTPUT_UNTOLD == 16
    assert (parse(body(max_tokens=0)).asked_output, parse(body(max_tokens=7)).asked_output) == (0, 7)


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
    ],
)
def test_every_text_that_will_be_written_counts(fields: dict[str, Any], n: int) -> None:
    assert parse(body(**fields)).n == n


NO_PROMPTS: list[Any] = [None, 5, {}, [], [[]], [None], ["a", 5], [True], ["a"] * 3000]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(({"prompt": wrong}, "prompt") for wrong in NO_PROMPTS),
        ({"n": 0}, "n"),
        ({"best_of": 1000}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"echo": "yes"}, "echo"),
        ({"stream_options": 5}, "stream_options"),
        ({"model": 5}, "model"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body(**fields))
    assert caught.value.param == param


def test_a_stream_is_asked_for_its_usage_and_a_bound_is_written_where_one_is_set() -> None:
    sent = json.loads(rewrite(parse(body(stream=True)), "up", 4))
    assert sent == {
        "model": "up",
        "prompt": "Say hi",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 4,
    }
    asked = body(max_tokens=9)
    assert rewrite(parse(asked), "m", None) is asked


def test_a_stream_passes_unchanged_and_its_usage_is_charged() -> None:
    stream = framed("usage-last")
    out, reading = passed(body(stream=True, stream_options={"include_usage": True}), stream)
    assert (out, reading) == (stream, Reading(Usage(input=14, output=2), UsageSource.REPORTED))


def test_usage_that_was_not_asked_for_is_not_shown() -> None:
    out, reading = passed(body(stream=True), framed("usage-last"))
    assert b"prompt_tokens" not in out and reading.usage.output == 2


def test_without_usage_the_text_of_every_choice_is_counted() -> None:
    assert passed(body(n=2), framed("usage-none-two-choices"))[1] == Reading(Usage(output=6), UsageSource.COUNTED)


def test_an_echoed_prompt_is_no_output() -> None:
    asked = body(prompt=["ab", "cdx"], echo=True)
    stream = framed("usage-none-two-choices")
    assert passed(asked, stream)[1].usage.output == 6 - len("ab") - len("cdf")
    reply = {"choices": [{"index": 1, "text": "cdxYZ"}, {"index": 0, "text": "abQ"}, {"index": 9, "text": "R"}]}
    meter = whole_reply(parse(asked), json.dumps(reply).encode(), "application/json", len)
    assert meter.text() == "YZQR"


def test_a_whole_reply_is_read() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    reply = json.dumps({"choices": [{"text": "hi", "index": 0}], "usage": usage, "service_tier": "flex"}).encode()
    meter = whole_reply(parse(body()), reply, "application/json", len)
    assert (meter.reading(0, 0).usage, meter.variant) == (Usage(input=2, output=1), "flex")
    assert whole_reply(parse(body()), b"[" * 100_000, "application/json", len).reading(2, 0).usage == Usage(input=2)


async def test_token_ids_count_as_many_as_they_are(tmp_path: Path) -> None:
    counting = Counting(Tokenizers.load(tmp_path))
    for prompt, tokens in (("Say hi", 2), ([5, 6, 7], 3), ([[5, 6], [7]], 3), (["Say hi", "Say hi"], 4)):
        request = parse(body(prompt=prompt))
        assert await SURFACE.foresee(request, MODEL, counting) == Usage(input=tokens)
        assert await SURFACE.count(request, MODEL, counting) == tokens
