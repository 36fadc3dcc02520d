"""Forms with a large file: whatever the order of their fields they are metered whole, and whatever becomes of the
upload or the disk, nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.backend import Backend, error, json_answer
from tests.gateway.forms import file, form, part
from tests.gateway.test_upload import small_disk
from tests.house import Farebox
from tests.uploads import HUGE, SECOND, SOUND, WORD, Open, all_free, asked, half_sent, on_disk, opener, sent, status_of


@pytest.fixture
async def spare() -> AsyncIterator[Backend]:
    async with Backend().running() as running:
        yield running


@pytest.fixture
def open_farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend, spare: Backend) -> Open:
    return opener(data_dir, database_url, redis_url, backend, spare)


@pytest.fixture
async def farebox(open_farebox: Open) -> AsyncIterator[Farebox]:
    async with open_farebox() as running:
        yield running


# Metered whole ------------------------------------------------------------------------------------------------------

ORDERS = {"the file last": (part("model", b"whisper"), SOUND), "the file first": (SOUND, part("model", b"whisper"))}


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("parts", ORDERS.values(), ids=ORDERS)
async def test_the_order_of_the_fields_makes_no_difference(
    parts: tuple[bytes, ...], chunked: bool, farebox: Farebox, backend: Backend
) -> None:
    answer = await asked(farebox, await farebox.caller(), *parts, chunked=chunked)
    assert (answer.status, answer.json()) == (200, WORD)
    (seen,) = backend.requests
    renamed = part("model", b"whisper-large")
    same = seen.body == form(*(each if each is SOUND else renamed for each in parts))
    assert same and seen.header("content-length") == str(len(seen.body))
    charge = await farebox.charge()
    assert (charge["usage"]["seconds"], charge["usage_source"]) == (10, "counted")
    assert charge["amount"] == 10 * SECOND


async def test_what_sets_the_price_counts_also_behind_the_file(farebox: Farebox, backend: Backend) -> None:
    backend.answer = json_answer({"data": [{"b64_json": "AAAA"}] * 2})
    picture, ada = file("image", bytes(600_000)), await farebox.caller(usd="0.16")
    order = (part("prompt", b"at night"), part("size", b"1024x1024"), part("quality", b"hd"), part("model", b"artist"))
    for n, status in ((b"5", 402), (b"2", 200)):  # five are dearer than what the wallet holds
        answer = await asked(farebox, ada, picture, *order, part("n", n), path="images/edits")
        assert answer.status == status
    (seen,) = backend.requests
    assert seen.body.endswith(part("n", b"2") + form())
    assert (await farebox.charge())["amount"] == 160_000_000


async def test_a_field_said_again_behind_the_file_is_refused(farebox: Farebox, backend: Backend) -> None:
    values = {"model": b"artist", "prompt": b"at night", "n": b"1", "size": b"256x256", "quality": b"low"}
    order, ada = [part(key, value) for key, value in values.items()], await farebox.caller()
    for name in values:
        answer = await asked(farebox, ada, *order, file("image", bytes(600_000)), part(name, b"9"), path="images/edits")
        assert (answer.status, answer.error["param"]) == (400, name)
    assert not backend.requests and not await farebox.charges()


async def test_a_fallback_gets_the_whole_form_under_its_own_name(
    farebox: Farebox, backend: Backend, spare: Backend
) -> None:
    backend.answer = error(500, "no")
    answer = await asked(farebox, await farebox.caller(), SOUND, part("model", b"whisper"))
    assert answer.status == 200
    (there,), (here,) = backend.requests, spare.requests
    assert there.body == form(SOUND, part("model", b"whisper-large"))
    assert here.body == form(SOUND, part("model", b"scribe"))
    assert (await farebox.charge())["amount"] == 10 * 3 * SECOND


async def test_a_form_that_cannot_be_read_leaves_nothing(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    for parts in ((SOUND,), (SOUND, SOUND, part("model", b"whisper")), (SOUND, b"junk")):
        answer = await asked(farebox, ada, *parts)
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    headers = {**ada.headers, "content-type": "audio/wav"}
    answer = await sent(farebox, "audio/transcriptions", HUGE, headers)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert not backend.requests


async def test_a_call_that_is_not_admitted_leaves_nothing(farebox: Farebox, backend: Backend) -> None:
    poor = await farebox.caller(usd="0")
    for _ in range(3):
        answer = await asked(farebox, poor, SOUND, part("model", b"whisper"))
        assert (answer.status, answer.error["code"]) == (402, "insufficient_balance")
    assert not backend.requests


# The caller's side --------------------------------------------------------------------------------------------------


async def test_an_upload_over_its_bound_is_told_the_bound(open_farebox: Open, backend: Backend) -> None:
    async with open_farebox(limits={"upload_bytes_max": 700_000}) as farebox:
        ada = await farebox.caller()
        for chunked in (False, True):
            answer = await asked(farebox, ada, HUGE, part("model", b"whisper"), chunked=chunked)
            assert (answer.status, answer.error["code"]) == (413, "request_too_large")
            assert "700000 bytes" in answer.error["message"]
            assert answer.error["farebox"]["limit"] == "upload_bytes_max"
        assert not backend.requests
        assert (await asked(farebox, ada, SOUND, part("model", b"whisper"))).status == 200


async def test_a_caller_who_stops_sending_is_told_that_it_took_too_long(open_farebox: Open, backend: Backend) -> None:
    async with open_farebox(limits={"body_timeout_s": 2}) as farebox:
        body = form(SOUND, part("model", b"whisper"))
        async with half_sent(farebox, await farebox.caller(), body) as (reader, _):
            status, said = await status_of(reader)
            assert status == 408 and b"request_timeout" in said
        assert not backend.requests


async def test_a_caller_who_leaves_in_the_middle_of_its_upload_pays_nothing(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="single")
    async with half_sent(farebox, ada, form(SOUND, part("model", b"whisper"))):
        assert on_disk(farebox) > 0

    await all_free(farebox)
    assert not backend.requests and not await farebox.charges()
    assert (await asked(farebox, ada, SOUND, part("model", b"whisper"))).status == 200


async def test_the_time_a_caller_takes_to_send_is_none_of_the_calls(open_farebox: Open) -> None:
    async with open_farebox(timeouts={"first_byte_s": 3, "total_s": 3}) as farebox:
        body = form(SOUND, part("model", b"whisper"))
        async with half_sent(farebox, await farebox.caller(), body) as (reader, writer):
            await asyncio.sleep(3.2)
            writer.write(body[500_000:])
            assert (await status_of(reader))[0] == 200
        assert (await farebox.charge())["duration_ms"] < 3000


async def test_an_upload_that_ends_when_the_process_stops_is_not_begun(farebox: Farebox, backend: Backend) -> None:
    body = form(SOUND, part("model", b"whisper"))
    async with half_sent(farebox, await farebox.caller(), body) as (reader, writer):
        farebox.run.gateway._gate.draining = True
        writer.write(body[500_000:])
        status, said = await status_of(reader)
        assert status == 503 and b"draining" in said
    assert not backend.requests


# The disk -----------------------------------------------------------------------------------------------------------


async def test_a_full_disk_is_a_plain_refusal_and_free_again_it_serves(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    with small_disk(8_000_000):
        answer = await asked(farebox, ada, HUGE, part("model", b"whisper"))
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert answer.error["farebox"]["limit"] == "disk" and int(answer.headers["retry-after"]) > 0
    assert not backend.requests and not await farebox.charges()
    assert (await asked(farebox, ada, SOUND, part("model", b"whisper"))).status == 200


async def test_room_that_is_taken_is_refused_and_then_free_again(open_farebox: Open) -> None:
    async with open_farebox(limits={"upload_bytes_max": 700_000, "upload_room_bytes": 1_000_000}) as farebox:
        ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
        body = form(SOUND, part("model", b"whisper"))
        async with half_sent(farebox, ada, body) as (reader, writer):
            refused = await asked(farebox, bob, SOUND, part("model", b"whisper"))
            assert (refused.status, refused.error["farebox"]["limit"]) == (503, "upload_room_bytes")
            again = await asked(farebox, ada, SOUND, part("model", b"whisper"))
            assert (again.status, again.error["code"]) == (429, "too_many_concurrent")
            writer.write(body[500_000:])
            assert (await status_of(reader))[0] == 200
        await all_free(farebox)
        assert (await asked(farebox, bob, SOUND, part("model", b"whisper"))).status == 200
