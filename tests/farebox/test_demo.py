"""The demo as a person starts it: a process of its own, its output read from a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

_DEMO = (sys.executable, "-m", "farebox", "demo")
_BOUND_S = 90
_SALIENT = (
    r"Balance before +5\.0000 USD",
    r"\| Before this answer began",
    r"Charge +\(15 tokens x 0\.15 \+ 41 tokens x 0\.60\) / 1M x 1\.2 for the tier = 0\.00003222 USD",
    r"Balance after +4\.99996778 USD",
    r"429, and Tess reads:",
    r"You have reached your limit of 3 requests per minute\. Try again in \d+ s\.",
    r"402, and Fay reads:",
    r"Your balance of 0\.0000 USD does not cover this request\. Top up: https://example\.com/upgrade",
    r"verify: ok, all \d+ invariants hold",
)


def _environment(folder: Path, bind: str = "127.0.0.1:0") -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    ours |= {"FAREBOX_DATA_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    # Production engines that the demo must leave alone: nobody answers there.
    ours |= {"FAREBOX_DATABASE_URL": "postgresql://127.0.0.1:1/none", "FAREBOX_REDIS_URL": "redis://127.0.0.1:1"}
    return ours | ({"FAREBOX_BIND": bind} if bind else {})


def _once(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_DEMO, "--once"],
        cwd=folder,
        env=_environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=_BOUND_S,
    )


def test_the_tour_shows_what_it_promises_twice_in_a_row_and_keeps_its_people(tmp_path: Path) -> None:
    first, second = _once(tmp_path), _once(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    for line in _SALIENT:
        assert re.search(line, first.stdout), line
    assert "\x1b" not in first.stdout
    assert (second.returncode, second.stderr) == (0, "")
    assert re.search(r"Balance before +4\.99996778 USD", second.stdout)
    keys = tmp_path / "demo" / "demo-keys.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert not set(json.loads(keys.read_bytes()).values()) & set(re.findall(r"sk-fb-\S+", first.stdout + second.stdout))


def test_it_serves_on_until_it_is_told_to_stop_and_a_second_one_takes_another_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        _DEMO, cwd=tmp_path, env=_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        bound = threading.Timer(_BOUND_S, running.kill)
        bound.start()
        try:
            assert running.stdout is not None
            said = ""
            while "verify\n" not in said:
                line = running.stdout.readline()
                assert line, f"it ended early: {said}"
                said += line
            beside = _once(tmp_path)
            url = re.search(r"serves at (http://\S+)/v1 until", said)
            key = re.search(r"basic +Bo +(\S+)", said)
            assert url and key
            assert _chat(url[1], key[1])["usage"]["prompt_tokens"] > 0
            running.send_signal(signal.SIGTERM)
            rest = running.stdout.read()
            assert running.wait(_BOUND_S) == 0
        finally:
            bound.cancel()
            running.kill()
    assert "Stopping" in rest
    assert beside.returncode == 0
    assert f"{tmp_path}/demo-2" in beside.stdout


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = _once(tmp_path, bind=bind)
    assert ended.returncode == 1
    assert f"cannot listen on {bind}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_an_address_a_taken_default_port_is_told_and_another_one_found(tmp_path: Path) -> None:
    with _default_port_taken():
        ended = _once(tmp_path, bind="")
    assert ended.returncode == 0
    assert "Port 8080 is in use" in ended.stdout


def _default_port_taken() -> socket.socket:
    """A listener on the default port; where somebody else has it already, any other socket does as well."""
    try:
        return socket.create_server(("127.0.0.1", 8080))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _chat(url: str, key: str) -> dict[str, dict[str, int]]:
    body = json.dumps({"model": "demo-small", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    call = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(call, timeout=30) as reply:
        return json.load(reply)  # type: ignore[no-any-return]
