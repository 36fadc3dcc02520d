"""Forms on disk: complete, without a name, within their room, and gone with their call however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from config.parts import Limits
from gateway.downstream import CallerLeft, Message, Receive
from gateway.errors import Refusal
from gateway.upload import HELD_BYTES_MAX, SHARE, Upload, Uploads
from tests.gateway.test_downstream import body, caller
from tests.streams import until

ADA, BOB = UUID(int=1), UUID(int=2)
LARGE = random.Random(1).randbytes(3 * HELD_BYTES_MAX + 12_345)
PIECES = [LARGE[at : at + 70_001] for at in range(0, len(LARGE), 70_001)]
LIMITS: dict[str, Any] = {
    "upload_bytes_max": 4 * len(LARGE),
    "upload_room_bytes": SHARE * 4 * len(LARGE),
    "body_timeout_s": 30,
    "upload_timeout_s": 60,
}


@pytest.fixture
async def open_room(data_dir: Path) -> AsyncIterator[Callable[..., Uploads]]:
    """Make a room with these limits."""
    rooms: list[Uploads] = []

    def make(**more: Any) -> Uploads:
        rooms.append(Uploads(data_dir / "uploads", Limits(**LIMITS | more)))
        return rooms[-1]

    yield make
    for room in rooms:
        await room.aclose()


@pytest.fixture
def room(open_room: Callable[..., Uploads]) -> Uploads:
    return open_room()


async def received(
    room: Uploads, receive: Receive, *, owner: UUID = ADA, declared: int | None = None
) -> bytes | Upload:
    headers = [] if declared is None else [(b"content-length", b"%d" % declared)]
    return await room.receive({"type": "http", "headers": headers}, receive, owner)


async def uploaded(room: Uploads, owner: UUID = ADA, pieces: list[bytes] = PIECES) -> Upload:
    upload = await received(room, caller(body(*pieces)), owner=owner)
    assert isinstance(upload, Upload)
    return upload


async def gone(upload: Upload) -> None:
    """Wait until its file is closed."""
    await until(lambda: upload._file is None or upload._file.closed)


async def test_a_small_form_is_plain_bytes_and_never_sees_the_disk(room: Uploads) -> None:
    small = LARGE[: HELD_BYTES_MAX - 1]
    assert await received(room, caller(body(small[:9], b"", small[9:])), declared=len(small)) == small
    assert await received(room, caller(body(b""))) == b""
    assert room.bytes == 0


@pytest.mark.parametrize("size", [HELD_BYTES_MAX, HELD_BYTES_MAX + 1, 2 * HELD_BYTES_MAX, len(LARGE)])
@pytest.mark.parametrize("piece", [1000, 65_536, 400_000])
async def test_a_large_form_is_read_back_as_it_came(size: int, piece: int, room: Uploads) -> None:
    sent = LARGE[:size]
    upload = await uploaded(room, pieces=[sent[at : at + piece] for at in range(0, size, piece)])
    assert (len(upload), room.bytes) == (size, size)
    assert upload[:] == sent
    assert await upload.read(5, size - 5) == sent[5:-5]
    upload.close()


async def test_any_slice_is_that_of_the_bytes(room: Uploads) -> None:
    upload, rng = await uploaded(room), random.Random(2)
    places = [0, 1, 65_535, 65_536, 131_071, len(LARGE) - 1, len(LARGE), len(LARGE) + 9, -1, -70_000]
    for _ in range(500):
        start = rng.choice(places) + rng.choice((0, rng.randrange(300)))
        end = start + rng.choice((-3, 0, 4, 300, 70_000, 200_000))
        assert upload[start:end] == LARGE[start:end]
    upload.close()


async def test_many_small_reads_close_together_ask_the_disk_once(
    room: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, asked = await uploaded(room), list[int]()
    from_disk = upload._from_disk

    def counted(start: int, end: int) -> bytes:
        asked.append(end - start)
        return from_disk(start, end)

    monkeypatch.setattr(upload, "_from_disk", counted)
    assert b"".join([upload[at : at + 4] for at in range(0, 400_000, 4)]) == LARGE[:400_000]
    assert len(asked) < 10 and max(asked) <= 65_536
    upload.close()


async def test_nobody_can_see_the_file(room: Uploads) -> None:
    upload = await uploaded(room)
    assert list(room.folder.iterdir()) == []
    assert room.folder.stat().st_mode & 0o777 == 0o700
    upload.close()


async def test_what_is_closed_gives_its_room_back_once_and_cannot_be_read(room: Uploads) -> None:
    upload, other = await uploaded(room), await uploaded(room, BOB)
    upload.close()
    upload.close()
    assert room.bytes == len(other)
    await gone(upload)
    with pytest.raises(ValueError, match="closed"):
        await upload.read(0, 70_000)
    with pytest.raises(ValueError, match="closed"):
        upload[:5]
    assert other[:5] == LARGE[:5]
    other.close()


async def test_a_form_over_its_bound_leaves_nothing(open_room: Callable[..., Uploads]) -> None:
    room = open_room(upload_bytes_max=len(LARGE) - 1)
    for declared in (None, len(LARGE)):
        with pytest.raises(Refusal) as refused:
            await received(room, caller(body(*PIECES)), declared=declared)
        assert (refused.value.code, refused.value.details["limit"]) == ("request_too_large", "upload_bytes_max")
        assert str(len(LARGE) - 1) in refused.value.message
    assert room.bytes == 0


async def test_a_caller_who_leaves_in_the_middle_leaves_nothing(room: Uploads) -> None:
    with pytest.raises(CallerLeft):
        await received(room, caller(body(*PIECES, more_at_end=True)))
    assert room.bytes == 0


async def test_a_caller_who_stops_sending_is_not_waited_for(open_room: Callable[..., Uploads]) -> None:
    room = open_room(body_timeout_s=0.2)
    with pytest.raises(Refusal) as refused:
        await received(room, caller(body(*PIECES, more_at_end=True), stalls=True))
    assert (refused.value.code, refused.value.status) == ("request_timeout", 408)
    assert room.bytes == 0


async def test_a_caller_who_only_trickles_is_not_waited_for_either(open_room: Callable[..., Uploads]) -> None:
    room = open_room(upload_timeout_s=0.4)
    told = iter(body(*PIECES, more_at_end=True))

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return next(told, {"type": "http.request", "body": b"x", "more_body": True})

    with pytest.raises(Refusal, match="in time"):
        await received(room, receive)
    assert room.bytes == 0


async def test_no_more_is_taken_from_a_caller_than_the_disk_has_taken(room: Uploads) -> None:
    """One thread after another is kept busy, so that the first write waits."""
    busy, asked = threading.Event(), 0
    for _ in range(8):
        room._threads.submit(busy.wait)
    told = iter(body(*PIECES))

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return next(told)

    receiving = asyncio.ensure_future(received(room, receive))
    await asyncio.sleep(0.05)
    assert asked <= HELD_BYTES_MAX // len(PIECES[0]) + 1 < len(PIECES)
    busy.set()
    upload = await receiving
    assert upload[:] == LARGE
    assert isinstance(upload, Upload)
    upload.close()


async def test_a_call_that_is_cancelled_while_the_disk_is_busy_leaves_nothing(room: Uploads) -> None:
    busy = threading.Event()
    for _ in range(3):
        room._threads.submit(busy.wait)
    upload = Upload(room, ADA)
    await upload.add(LARGE)
    upload._turn.acquire()
    adding = asyncio.ensure_future(upload.add(LARGE))
    await asyncio.sleep(0.05)
    adding.cancel()
    upload.close()
    assert room.bytes == 0
    upload._turn.release()
    busy.set()
    await gone(upload)


async def test_room_is_shared_and_free_again(open_room: Callable[..., Uploads]) -> None:
    room = open_room(upload_bytes_max=len(LARGE), upload_room_bytes=2 * len(LARGE) + 9)
    first = await uploaded(room, ADA)
    second = await uploaded(room, BOB)
    eve = UUID(int=3)
    for declared in (None, len(LARGE)):
        with pytest.raises(Refusal) as refused:
            await received(room, caller(body(*PIECES)), owner=eve, declared=declared)
        told = refused.value
        assert (told.code, told.status, told.details["limit"]) == ("draining", 503, "upload_room_bytes")
        assert told.retry_after_s
    assert room.bytes == 2 * len(LARGE)
    second.close()
    (await uploaded(room, eve)).close()
    first.close()


async def test_nobody_takes_more_than_a_share_of_the_room(open_room: Callable[..., Uploads]) -> None:
    room = open_room(upload_bytes_max=len(LARGE), upload_room_bytes=SHARE * 2 * len(LARGE))
    mine = [await uploaded(room), await uploaded(room)]
    for declared in (None, len(LARGE)):
        with pytest.raises(Refusal) as refused:
            await received(room, caller(body(*PIECES)), declared=declared)
        assert (refused.value.code, refused.value.status) == ("too_many_concurrent", 429)
        assert refused.value.retry_after_s
    mine.append(await uploaded(room, BOB))
    mine.pop(0).close()
    mine.append(await uploaded(room))
    for upload in mine:
        upload.close()
    assert room.bytes == 0 and not room._by_owner


async def test_who_has_no_room_is_told_before_anything_is_read(open_room: Callable[..., Uploads]) -> None:
    room = open_room(upload_bytes_max=len(LARGE), upload_room_bytes=len(LARGE))
    upload = await uploaded(room)

    async def never() -> Message:
        raise AssertionError("nothing should be read")

    with pytest.raises(Refusal, match="room"):
        await received(room, never, owner=BOB, declared=len(LARGE))
    upload.close()


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """While the block lasts, no file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fits", [0, 1, HELD_BYTES_MAX + 100])
async def test_a_full_disk_is_a_plain_refusal_and_leaves_nothing(
    fits: int, room: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(fits), pytest.raises(Refusal) as refused:
        await received(room, caller(body(*PIECES)))
    told = refused.value
    assert (told.code, told.status, told.details["limit"]) == ("draining", 503, "disk")
    assert told.retry_after_s and "room" in told.message
    assert room.bytes == 0 and list(room.folder.iterdir()) == []
    assert [record.message for record in caplog.records] == ["upload not kept"]
    (await uploaded(room)).close()


async def test_a_folder_that_cannot_be_written_is_the_same_refusal(room: Uploads) -> None:
    room.folder.rmdir()
    with pytest.raises(Refusal) as refused:
        await received(room, caller(body(*PIECES)))
    assert refused.value.details["limit"] == "disk"
    assert room.bytes == 0


async def test_a_file_that_has_become_shorter_is_never_read_as_whole(room: Uploads) -> None:
    upload = await uploaded(room)
    assert upload._file is not None
    upload._file.truncate(100)
    with pytest.raises(OSError, match="shorter"):
        await upload.read(0, 70_000)
    upload.close()
