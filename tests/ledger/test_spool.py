"""What is on disk survives the process, torn lines and all, and is taken over once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from ledger.hold import Settlement
from ledger.spool import Orphan, Spool
from ledger.teller import void
from tests.ledger.till import facts_of


def _events(count: int) -> list[Settlement]:
    return [void(uuid4(), uuid4(), facts_of()) for _ in range(count)]


def _left(folder: Path, *batches: list[Settlement]) -> Path:
    """The file of a process that died after it had kept these."""
    spool = Spool(folder, "dead")
    for batch in batches:
        spool.append(batch)
    spool.close()
    [path] = folder.glob("dead-*.spool")
    return path


def _orphans(folder: Path) -> list[list[Settlement]]:
    spool = Spool(folder, "living")
    try:
        found = list(spool.orphans())
        for orphan, _ in found:
            orphan.leave()
        return [events for _, events in found]
    finally:
        spool.close()


def test_what_a_dead_process_left_is_read_back_whole(data_dir: Path) -> None:
    first, second = _events(3), _events(2)
    _left(data_dir, first, second)
    assert _orphans(data_dir) == [first + second]


def test_a_killed_process_leaves_what_it_appended(data_dir: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from uuid import uuid4;"
        "from ledger.spool import Spool; from ledger.teller import void; from tests.ledger.till import facts_of;"
        "spool = Spool(Path(sys.argv[1]), 'killed');"
        "spool.append([void(uuid4(), uuid4(), facts_of()) for _ in range(3)]);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(data_dir)], check=False, timeout=60)
    assert [len(events) for events in _orphans(data_dir)] == [3]


def test_the_file_of_a_living_process_is_not_taken(data_dir: Path) -> None:
    living = Spool(data_dir, "living")
    living.append(_events(1))
    assert _orphans(data_dir) == []
    living.close()
    assert len(_orphans(data_dir)) == 1


def test_a_process_of_the_same_name_takes_over_what_the_earlier_one_left(data_dir: Path) -> None:
    kept = _events(1)
    _left(data_dir, kept)
    again = Spool(data_dir, "dead")
    [(orphan, events)] = list(again.orphans())
    assert events == kept
    again.append(_events(1))
    again.clear()
    orphan.leave()
    again.close()
    assert _orphans(data_dir) == [kept]


def test_an_orphan_is_taken_over_by_one_only(data_dir: Path) -> None:
    path = _left(data_dir, _events(1))
    first = Orphan.take(path)
    assert first is not None and Orphan.take(path) is None
    first.remove()
    assert Orphan.take(path) is None and not path.exists()


def test_an_orphan_somebody_removed_meanwhile_still_reads(data_dir: Path) -> None:
    kept = _events(2)
    path = _left(data_dir, kept)
    orphan = Orphan.take(path)
    assert orphan is not None
    path.unlink()
    assert orphan.read() == kept
    orphan.remove()


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_loses_only_itself(data_dir: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    first = _events(2)
    path = _left(data_dir, first, _events(1))
    path.write_bytes(path.read_bytes()[:-cut])
    read = _orphans(data_dir)
    # Without its line end alone the record is still whole.
    assert [events[:2] for events in read] == [first] and len(read[0]) == (3 if cut == 1 else 2)
    assert bool(caplog.records) == (cut > 1) == path.with_suffix(".spoilt").exists()


def test_a_spoilt_line_in_the_middle_is_kept_apart_and_reported(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = _events(3)
    path = _left(data_dir, events)
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"upstream_error", b"upstream_errxr")
    path.write_bytes(b"\n".join(lines))
    assert _orphans(data_dir) == [[events[0], events[2]]]
    assert path.with_suffix(".spoilt").read_bytes() == lines[1] + b"\n"
    assert "spoilt" in caplog.text


def test_a_line_after_a_torn_one_is_not_swallowed(data_dir: Path) -> None:
    spool = Spool(data_dir, "dead")
    spool.append(_events(1))
    [path] = data_dir.glob("*.spool")
    with path.open("ab") as file:
        file.write(b"0badc0de {torn")
    after = _events(1)
    spool.append(after)
    spool.close()
    assert _orphans(data_dir)[0][1:] == after


@pytest.mark.parametrize("noise", [b"\n\n", b"no checksum\n", b"zz {}\n", b"00000000 {}\n", b"\xff\xfe\x00\n"])
def test_noise_is_no_record(data_dir: Path, noise: bytes) -> None:
    kept = _events(1)
    path = _left(data_dir, kept)
    path.write_bytes(noise + path.read_bytes())
    assert _orphans(data_dir) == [kept]


def test_a_cleared_spool_leaves_no_file(data_dir: Path) -> None:
    spool = Spool(data_dir, "living")
    spool.append(_events(2))
    assert spool.records == 2
    spool.clear()
    assert spool.records == 0
    spool.close()
    assert list(data_dir.iterdir()) == []


def test_what_is_set_apart_is_kept_and_never_replayed(data_dir: Path) -> None:
    spool = Spool(data_dir, "living")
    refused = _events(2)
    for event in refused:
        spool.set_apart(event)
    spool.close()
    lines = (data_dir / "living.refused").read_text().splitlines()
    assert [str(event.request_id) in line for event, line in zip(refused, lines, strict=True)] == [True, True]
    assert _orphans(data_dir) == []


def test_the_spool_is_for_its_owner_alone(data_dir: Path) -> None:
    spool = Spool(data_dir / "spool", "living")
    [path] = (data_dir / "spool").glob("*.spool")
    assert ((data_dir / "spool").stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    spool.close()


def test_a_full_disk_is_the_callers_to_hear(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(data_dir, "living")

    def full(file: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ledger.spool.os.write", full)
    with pytest.raises(OSError, match="No space"):
        spool.append(_events(1))
    assert spool.records == 0
    spool.close()
