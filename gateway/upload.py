"""Forms that may hold a large file, from their first byte to the end of their call: a small one in memory, others on
disk.

A file on disk has no name: nobody else can open it, and it is gone when this process closes it or dies. How much disk
all of them take is bounded, and so is what one caller takes of it. The disk is waited for in threads of its own.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from config.parts import Limits
from gateway import sentences
from gateway.downstream import Receive, Scope, hand_on
from gateway.errors import Refusal
from gateway.language import sentence

HELD_BYTES_MAX = 256 * 1024  # of one form in memory while it arrives; a smaller form never sees the disk
SHARE = 4  # one caller's part of the room is one in so many, or one upload

_NEAR_BYTES = 64 * 1024
_THREADS = 4
_RETRY_S = 10

_log = logging.getLogger("farebox.gateway")
_T = TypeVar("_T")


class Uploads:
    """The room for uploads; one for each process. ``bytes`` is what they take of the disk. Raises OSError when the
    folder cannot be made."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.bytes = 0
        self._limits = limits
        self._share = max(limits.upload_room_bytes // SHARE, limits.upload_bytes_max)
        self._by_owner: Counter[UUID] = Counter()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="uploads")

    async def receive(self, scope: Scope, receive: Receive, owner: UUID) -> bytes | Upload:
        """The whole body: as it is when small, else an upload that must be closed. Raises Refusal, CallerLeft."""
        limits = self._limits
        upload = Upload(self, owner)
        try:
            if HELD_BYTES_MAX < (declared := _declared(scope)) <= limits.upload_bytes_max:
                self._check(owner, declared)
            await hand_on(
                scope,
                receive,
                upload.add,
                bytes_max=limits.upload_bytes_max,
                pause_s=limits.body_timeout_s,
                timeout_s=limits.upload_timeout_s,
            )
            return await upload.whole()
        except OSError as error:
            upload.close()
            _log.warning("upload not kept", extra={"reason": str(error)})
            raise _no_room("disk") from None
        except BaseException:
            upload.close()
            raise

    async def run(self, work: Callable[..., _T], *given: object) -> _T:
        """Do what may wait for the disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def take(self, owner: UUID, size: int) -> None:
        """Count so many bytes more. Raises Refusal where there is no room for them."""
        self._check(owner, size)
        self.bytes += size
        self._by_owner[owner] += size

    def give_back(self, owner: UUID, size: int, remove: Callable[[], None]) -> None:
        """Count so many bytes less, and let a thread ``remove`` them."""
        self.bytes -= size
        self._by_owner[owner] -= size
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        self._threads.submit(remove)

    async def aclose(self) -> None:
        """Wait for the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    def _check(self, owner: UUID, size: int) -> None:
        if self._by_owner[owner] + size > self._share:
            said = sentence("uploads_yours")
            raise Refusal.of("too_many_concurrent", said, limit="upload_room_bytes", retry_after_s=_RETRY_S)
        if self.bytes + size > self._limits.upload_room_bytes:
            raise _no_room("upload_room_bytes")


class Upload:
    """One form. Added to while it arrives; afterwards a body, whose slices are for threads."""

    def __init__(self, uploads: Uploads, owner: UUID) -> None:
        self._uploads = uploads
        self._owner = owner
        self._held = bytearray()  # has arrived and is not on disk yet
        self._size = 0  # on disk
        self._file: io.FileIO | None = None
        self._near = (0, b"")  # where the last small read began, and what stands there
        self._closed = False
        # A thread may still write or read when its call has ended; a descriptor closed under it could be another's.
        self._turn = threading.Lock()

    async def add(self, piece: bytes) -> None:
        """Keep what has arrived. Raises Refusal (no room), OSError (disk full)."""
        self._held += piece
        if len(self._held) >= HELD_BYTES_MAX:
            await self._lay_down()

    async def whole(self) -> bytes | Upload:
        """Everything has arrived: what was kept. Raises as ``add``."""
        if not self._size:
            return bytes(self._held)
        await self._lay_down()
        return self

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        """Raises OSError, ValueError once it is closed."""
        start, end, _ = part.indices(self._size)
        end = max(start, end)
        with self._turn:
            at, near = self._near
            if at <= start and end <= at + len(near):
                return near[start - at : end - at]
            if end - start >= _NEAR_BYTES:
                return self._from_disk(start, end)
            self._near = start, self._from_disk(start, min(start + _NEAR_BYTES, self._size))
            return self._near[1][: end - start]

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``. Raises OSError, ValueError once it is closed."""
        return await self._uploads.run(self.__getitem__, slice(start, end))

    def close(self) -> None:
        """Give the disk back; a second time does nothing."""
        if not self._closed and self._size:
            self._uploads.give_back(self._owner, self._size, self._remove)
        self._closed = True

    async def _lay_down(self) -> None:
        held, self._held = self._held, bytearray()
        self._uploads.take(self._owner, len(held))
        self._size += len(held)
        await self._uploads.run(self._write, held)

    def _write(self, data: bytearray) -> None:
        with self._turn:
            if self._closed:
                raise ValueError("the upload is closed")
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._uploads.folder)  # noqa: SIM115 # see `close`
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def _from_disk(self, start: int, end: int) -> bytes:
        if self._file is None or self._closed:
            raise ValueError("the upload is closed")
        data = os.pread(self._file.fileno(), end - start, start)
        if len(data) < end - start:
            raise OSError(errno.EIO, "an upload is shorter than it was")
        return data

    def _remove(self) -> None:
        with self._turn:
            self._near = (0, b"")
            if self._file is not None:
                self._file.close()


def _declared(scope: Scope) -> int:
    """The body's size as its head tells it; 0 where it does not."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0)


def _no_room(limit: str) -> Refusal:
    return sentences.waiting("draining", "uploads_full", _RETRY_S, limit=limit)
