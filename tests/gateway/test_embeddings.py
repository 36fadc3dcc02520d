"""Embeddings as a surface: texts or token ids in, vectors out, input alone is charged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import BadRequest
from gateway.counting import Counting
from gateway.embeddings import SURFACE, count, foresee, parse, rewrite, tap, whole
from gateway.meter import Reading
from gateway.tokens import Tokenizers
from ledger.usage import Usage, UsageSource
from tests.gateway.words import words

MODEL = Model(id="m", upstream="u", upstream_model="inner", kind="embedding")


def body(given: Any = "Say hi", **fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": given, **fields}, separators=(",", ":")).encode()


def test_only_the_models_name_changes_and_no_bound_is_told() -> None:
    asked = body(["a", "b"], encoding_format="base64", dimensions=3)
    assert rewrite(parse(asked), "m", 7) is asked
    assert json.loads(rewrite(parse(asked), "inner", 7)) == {**json.loads(asked), "model": "inner"}


@pytest.mark.parametrize(
    ("given", "tokens"), [("Say hi", 2), (["Say hi", "Say hi"], 4), ([5, 6, 7], 3), ([[5, 6], [7]], 3)]
)
async def test_texts_and_token_ids_are_foreseen_and_counted(given: Any, tokens: int, tmp_path: Path) -> None:
    counting = Counting(Tokenizers.load(tmp_path))
    request = parse(body(given))
    assert await foresee(request, MODEL, counting) == Usage(input=tokens)
    assert await count(request, MODEL, counting) == tokens


def test_reported_usage_is_charged_and_our_count_where_there_is_none() -> None:
    reply = {"data": [{"embedding": "AAAA"}], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    meter = whole(parse(body()), json.dumps(reply).encode(), "application/json", words)
    assert (meter.sure, meter.reading(0, 0)) == (True, Reading(Usage(input=9), UsageSource.REPORTED))
    del reply["usage"]
    meter = whole(parse(body()), json.dumps(reply).encode(), "application/json", words)
    assert (meter.sure, meter.reading(2, 0)) == (False, Reading(Usage(input=2), UsageSource.COUNTED))


def test_a_backend_that_streams_all_the_same_is_metered() -> None:
    relay = tap(parse(body()), words, lambda usage: None, 1000)
    stream = b'data: {"usage":{"prompt_tokens":9,"total_tokens":9}}\n\ndata: [DONE]\n\n'
    assert relay.feed(stream) + relay.close() + relay.terminal == stream
    assert relay.meter.reading(0, 0).usage == Usage(input=9)


def test_what_asks_for_no_embedding_is_refused() -> None:
    for wrong in (b"{}", body(None), body(model=None)):
        with pytest.raises(BadRequest):
            parse(wrong)


def test_no_output_is_reserved() -> None:
    assert (SURFACE.path, SURFACE.kind, SURFACE.has_output, SURFACE.free) == ("/embeddings", "embedding", False, False)
