"""The endpoint before and around a call: its gate, its key for repeats, and what it refuses without a pump."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Refusal
from gateway.proxy import Gate, _idempotency
from gateway.surfaces import SURFACES
from tests import house
from tests.backend import Backend, Stall
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import delta, stream


def test_the_gate_lets_in_as_many_as_it_is_set_to() -> None:
    running: list[str] = []
    gate = Gate(2, lambda: len(running))
    for call in ("one", "two"):
        gate.check()
        running.append(call)
    with pytest.raises(Refusal) as full:
        gate.check()
    assert (full.value.code, full.value.status, full.value.details["limit"]) == ("draining", 503, "streams_max")
    assert full.value.retry_after_s


def test_the_gate_lets_nobody_in_while_draining() -> None:
    gate = Gate(2, lambda: 0)
    gate.draining = True
    with pytest.raises(Refusal, match="restarted") as closed:
        gate.check()
    assert closed.value.retry_after_s


def test_a_key_for_repeats_is_bounded_and_optional() -> None:
    assert _idempotency([(b"accept", b"*/*")]) == ""
    assert _idempotency([(b"idempotency-key", b"once")]) == "once"
    assert len(_idempotency([(b"idempotency-key", b"x" * 5000)])) == 255


def test_each_surface_has_its_own_path() -> None:
    assert len({surface.path for surface in SURFACES}) == len(SURFACES)
    assert {"chat.completions", "embeddings"} <= {surface.route for surface in SURFACES}


async def test_a_process_that_is_full_says_so_and_is_free_again(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    backend.then([*script([delta("one")], end=False), Stall()])
    full: dict[str, Any] = {"limits": {"streams_max": 1}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **full) as farebox:
        ada = await farebox.caller()
        async with stream(farebox, ada) as reply:
            await reply.content.readany()
            refused = await farebox.chat(ada)
            assert (refused.status, refused.error["code"]) == (503, "draining")
            assert refused.headers["retry-after"] == "2"
        await farebox.settled()
        assert (await farebox.chat(ada)).status == 200
        assert not await farebox.broken()


async def test_who_is_calling_is_asked_before_the_body_is_read(farebox: Farebox) -> None:
    refused = await farebox.post("/v1/chat/completions", b"not json", {"authorization": "Bearer wrong"})
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    ada = await farebox.caller()
    refused = await farebox.post("/v1/chat/completions", b"not json", ada)
    assert (refused.status, refused.error["code"]) == (400, "invalid_request")
    assert refused.error["farebox"]["request_id"] == refused.headers["x-request-id"]
