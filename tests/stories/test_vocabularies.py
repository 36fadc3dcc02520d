"""A model names the vocabulary it is counted by. One that is not to be had never fails a call."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from splintr import Tokenizer
from sqlalchemy import text

from tests import house
from tests.backend import Backend, chat
from tests.house import Farebox
from tests.streams import tokens

_LOCAL = '[[models]]\nid = "local"\nupstream = "main"\ntokenizer = "mistral_v1"\nprices = {input = "1", output = "1"}\n'
_ASKED = "Wie sagt man auf Finnisch: Donaudampfschifffahrtsgesellschaft? "
_SAID = "Tonavanhöyrylaivayhtiö"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_is_counted_by_the_vocabulary_its_model_names(
    streamed: bool, data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    backend.answer = chat([_SAID], usage={})
    asked = _ASKED * 200  # long enough for a worker thread
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_LOCAL) as farebox:
        assert (await farebox.chat(await farebox.caller(), asked, model="local", stream=streamed)).status == 200
        used = (await farebox.charge())["usage"]
    own = Tokenizer.from_pretrained("mistral_v1")
    counts = {"input": len(own.encode_ordinary(asked)), "output": len(own.encode_ordinary(_SAID))}
    assert used["output"] == counts["output"] != tokens(_SAID)
    assert used["input"] == pytest.approx(counts["input"] + 3 + 2 + 3, abs=4)


async def test_a_vocabulary_saved_where_the_extra_is_missing_fails_no_call_and_is_told_once(
    farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)
    backend.answer = chat([_SAID], usage={})
    ada = await farebox.caller()
    async with farebox.engine.begin() as connection:
        named = """'{"tokenizer": "qwen3", "tokenizer_factor_ppm": 1500000}'"""
        await connection.execute(text(f"UPDATE models SET doc = doc || {named} WHERE name = 'small'"))
    expected = -(-tokens(_SAID) * 3 // 2)

    async def counted_so() -> bool:
        assert (await farebox.chat(ada, _ASKED)).status == 200
        return bool((await farebox.charges())[-1]["usage"]["output"] == expected)

    with caplog.at_level(logging.WARNING):
        await house.until(counted_so)
        assert await counted_so()
    told = [record for record in caplog.records if record.message == "counted by another vocabulary"]
    assert len(told) == 1 and "needs the extra" in told[0].__dict__["reason"]


async def test_a_vocabulary_the_database_names_and_nobody_has_keeps_no_gateway_from_starting(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    gone = text("""UPDATE models SET doc = doc || '{"tokenizer": "gone"}' WHERE name = 'large'""")
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as first, first.engine.begin() as database:
        await database.execute(gone)
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        assert (await farebox.chat(await farebox.caller(tier="pro"), model="large")).status == 200
