"""What a serving process was made of stays, in large pages where Linux has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farebox import memory

_MB = 1024 * 1024
_MAPS = """\
00400000-00600000 rw-p 00000000 00:00 0
00700000-00f00000 rw-p 00000000 00:00 0                                  [heap]
10000000-10800000 r-xp 00000000 fe:00 7                                  /usr/bin/python
20000000-20800000 rw-p 00000000 fe:00 7                                  /a file
30000000-30800000 rw-s 00000000 00:01 9                                  /dev/zero (deleted)
40000000-40800000 rw-p 00000000 00:00 0                                  [stack]
50100000-502ff000 rw-p 00000000 00:00 0
"""

# A process of its own, because what it does stays. Tells how much of it lies in large pages, before and after.
_SETTLED = """
import gc
from pathlib import Path
from farebox import memory

def large():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("AnonHugePages")))

kept = [[number] for number in range(500_000)]
before = large()
memory.settle()
print(before, large(), gc.get_freeze_count() > 500_000, gc.get_threshold()[0], kept[-1][0])
"""


def test_whole_pages_of_memory_that_is_written_to_and_no_files_are_the_heap() -> None:
    assert list(memory.heaps(_MAPS, 2 * _MB)) == [(0x400000, 0x600000), (0x800000, 0xE00000)]


def test_what_was_made_for_the_start_stays_and_lies_in_large_pages() -> None:
    done = subprocess.run([sys.executable, "-c", _SETTLED], capture_output=True, text=True, check=True)
    before, after, frozen, threshold, last = done.stdout.split()
    assert (frozen, threshold, last) == ("True", "50000", "499999")
    if _offered():
        assert int(after) >= int(before) + 8 * 1024


def _offered() -> bool:
    try:
        enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        release = Path("/proc/sys/kernel/osrelease").read_text().split(".")
    except OSError:
        return False
    return "[never]" not in enabled and (int(release[0]), int(release[1])) >= (6, 1)


@pytest.mark.parametrize("enabled", ["always madvise [never]\n", None])
def test_without_large_pages_nothing_is_moved(
    enabled: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if enabled is not None:
        (tmp_path / "hpage_pmd_size").write_text("2097152\n")
        (tmp_path / "enabled").write_text(enabled)
    monkeypatch.setattr(memory, "_PAGES", tmp_path)
    monkeypatch.setattr(memory, "heaps", lambda *_: pytest.fail("looked for what to move"))
    memory.into_large_pages()
