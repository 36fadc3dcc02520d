"""The memory of a process that only serves: what was made for its start stays to the end.

It is looked through no more for what nobody uses, and it lies in large pages where Linux has them: a call touches
objects all over it, and finds each place sooner. Nothing grows by it, for those pages were full before.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
_MAPS = Path("/proc/self/maps")
_MADV_COLLAPSE = 25  # Linux 6.1, madvise(2): at once, and no promise for what is mapped later
# Objects that may pile up before cycles are looked for. A call leaves none behind, and with the usual 700 the looking
# takes a tenth of its time.
_GARBAGE = 50_000


def settle() -> None:
    """Everything that was made until now stays to the end, and calls leave no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 20)
    into_large_pages()


def into_large_pages() -> None:
    """Move the heap into large pages. Where the kernel has none, is too old or was told ``never``, nothing happens."""
    try:
        size = int((_PAGES / "hpage_pmd_size").read_text())
        wanted = "[never]" not in (_PAGES / "enabled").read_text()
        maps = _MAPS.read_text()
    except (OSError, ValueError):
        return
    if not wanted:
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for begin, end in heaps(maps, size):
        madvise(begin, end - begin, _MADV_COLLAPSE)


def heaps(maps: str, size: int) -> Iterator[tuple[int, int]]:
    """Where whole pages of ``size`` bytes lie within the memory that objects are in: anonymous, and written to.
    ``maps``: see proc_pid_maps(5)."""
    for line in maps.splitlines():
        where, rights, *_, inode, name = (*line.split(maxsplit=5), "")[:6]
        if rights != "rw-p" or inode != "0" or name not in ("", "[heap]"):
            continue
        begin, end = (int(edge, 16) for edge in where.split("-"))
        begin, end = -(-begin // size) * size, end // size * size
        if begin < end:
            yield begin, end
