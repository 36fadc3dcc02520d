"""The backend and the load generator do what they say: all is counted once, and what breaks is told."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.loads import Plan, body
from bench.machine import BenchError
from bench.programs import Programs, compiled


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return compiled(tmp_path_factory.mktemp("bin"))


class Backend:
    """A running backend."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.port = int(process.stdout.readline().split()[1])
        self.url = f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def counts(self) -> dict[str, int]:
        return dict(json.loads(self.get("/counts")))

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
            return bytes(reply.read())

    def ask(self, content: str, **more: object) -> tuple[int, bytes]:
        """One request; the status and the whole reply."""
        document = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
        request = urllib.request.Request(self.url, json.dumps(document).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@pytest.fixture
def backend(programs: Programs) -> Iterator[Backend]:
    with subprocess.Popen([str(programs.backend)], stdout=subprocess.PIPE, text=True) as process:
        yield Backend(process)
        process.terminate()
        assert process.wait(10) == 0


class Loader:
    """The load generator, run to its end."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.program = str(programs.load)
        self.body = folder / "body"

    def __call__(self, url: str, document: str, *words: str) -> dict[str, Any]:
        self.body.write_text(document)
        command = [self.program, "-u", url, "-b", str(self.body), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        *said, last = done.stdout.splitlines()
        assert said in (["begin", "end"], ["end"])
        return dict(json.loads(last))


@pytest.fixture
def load(programs: Programs, tmp_path: Path) -> Loader:
    return Loader(programs, tmp_path)


def stream(plan: str) -> str:
    return json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": f"{plan} hello"}]})


PLAIN = body("m", None)

# Compiling -----------------------------------------------------------------------------------------------------------


def test_programs_are_compiled_once(programs: Programs) -> None:
    made = programs.load.stat().st_mtime_ns
    assert compiled(programs.load.parent) == programs
    assert programs.load.stat().st_mtime_ns == made
    assert {file.name.partition("-")[0] for file in programs.load.parent.iterdir()} == {"backend", "load"}


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match=r"no-such-compiler is not on the path. Install one"):
        compiled(tmp_path)


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "sh -c 'echo no room >&2; exit 1'")
    with pytest.raises(BenchError, match=r"backend.c could not be compiled: no room"):
        compiled(tmp_path)
    assert not list(tmp_path.iterdir())


# The backend ---------------------------------------------------------------------------------------------------------


def test_a_call_is_answered_in_one_piece_with_usage(backend: Backend) -> None:
    status, reply = backend.ask("hello")
    answer = json.loads(reply)
    assert status == 200 and answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 17, "completion_tokens": 48, "total_tokens": 65}
    assert answer["id"] != json.loads(backend.ask("hello")[1])["id"]


def test_a_stream_has_its_pieces_its_end_its_usage_and_done(backend: Backend) -> None:
    _, reply = backend.ask("[[bench 7 0 0 -1]] hello", stream=True)
    *events, done, rest = reply.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    first, *pieces, finish, usage = [json.loads(event.removeprefix("data: ")) for event in events]
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [piece["choices"][0]["delta"]["content"][0] for piece in pieces] == ["~"] * 7
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 7)
    assert len({event["id"] for event in (first, *pieces, finish, usage)}) == 1


def test_a_piece_carries_the_instant_it_was_sent(backend: Backend) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 & (1 << 36) - 1
    _, reply = backend.ask("[[bench 2 30000 20 -1]] hello", stream=True)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 & (1 << 36) - 1
    first, second = (int(part[:9], 16) for part in reply.decode().split("~")[1:])
    assert before + 20_000 <= first < second <= after


def test_a_body_in_chunks_is_understood(backend: Backend) -> None:
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        document = stream("[[bench 3 0 0 -1]]").encode()
        for piece in (document[:50], document[50:]):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\nGET /counts HTTP/1.1\r\n\r\n")
        reply = b""
        while b'"left"' not in reply:
            reply += connection.recv(65536)
    assert reply.count(b"~") == 3 and b'"chunks":3' in reply


def test_others_are_told_which_model_there_is(backend: Backend) -> None:
    assert json.loads(backend.get("/v1/models"))["data"][0]["id"] == "bench"


def test_whoever_leaves_is_counted(backend: Backend) -> None:
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        document = stream("[[bench 1000 1000 0 -1]]").encode()
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(document), document))
        assert connection.recv(1)
    counts = backend.counts()
    while not counts["left"]:
        counts = backend.counts()
    assert (counts["streams"], counts["streams_done"], counts["left"]) == (1, 0, 1)


# The load ------------------------------------------------------------------------------------------------------------


def test_so_many_calls_are_made_and_all_are_counted(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, PLAIN, "-c", "7", "-n", "500")
    assert (gave["calls"], gave["all_calls"], gave["unfinished"], gave["most_active"]) == (500, 500, 0, 7)
    assert (gave["refused"], gave["broken"], gave["short"]) == (0, 0, 0)
    assert gave["latency_us"]["n"] == 500 and 0 < gave["latency_us"]["p50"] <= gave["latency_us"]["max"]
    assert backend.counts()["replies"] == 500


def test_every_chunk_of_every_stream_arrives_and_is_timed(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, stream("[[bench 50 0 0 -1]]"), "-c", "8", "-n", "40", "-e", "50")
    assert (gave["calls"], gave["chunks"], gave["delay_us"]["n"], gave["first_us"]["n"]) == (40, 2000, 2000, 40)
    counts = backend.counts()
    assert (counts["streams_done"], counts["chunks"], counts["left"]) == (40, 2000, 0)


def test_paced_streams_keep_their_pace(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, stream("[[bench 12 20000 0 -1]]"), "-c", "20", "-n", "20", "-e", "12")
    assert gave["chunks"] == 240
    assert 0.22 <= gave["latency_us"]["p50"] / 1e6 < 5  # eleven pauses of 20 ms, and no more than a busy machine adds


def test_a_window_counts_what_ends_in_it(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, PLAIN, "-c", "4", "-w", "0.3", "-t", "0.5", "-g", "5")
    assert gave["seconds"] == pytest.approx(0.5, abs=0.01)
    assert 0 < gave["calls"] < gave["all_calls"] and not gave["unfinished"]
    assert backend.counts()["replies"] == gave["all_calls"]


def test_calls_come_at_their_rate_whatever_became_of_the_others(backend: Backend, load: Loader) -> None:
    slow = stream("[[bench 1 0 300 -1]]")
    gave = load(backend.url, slow, "-c", "3", "-r", "50", "-n", "20", "-e", "1")
    assert (gave["calls"], gave["most_active"]) == (20, 3)
    # Twenty were due within 0.4 s, three at once take 0.3 s: the last began 1.8 s after it was due, and that counts.
    assert gave["latency_us"]["max"] > 1_500_000


def test_each_call_sends_the_next_line_of_headers(backend: Backend, load: Loader, tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []
    answering = threading.Thread(target=answer, args=(listener, 3, heads))
    answering.start()
    (tmp_path / "keys").write_text("authorization: Bearer one\nauthorization: Bearer two\n")
    words = ("-c", "1", "-n", "3", "-K", str(tmp_path / "keys"), "-H", "x-more: 1")
    gave = load(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/x", PLAIN, *words)
    answering.join()
    assert gave["calls"] == 3
    assert [head.split(b"Bearer ")[1][:3] for head in heads] == [b"one", b"two", b"one"]
    assert all(b"\r\nx-more: 1\r\n" in head and head.startswith(b"POST /v1/x HTTP/1.1") for head in heads)


def answer(listener: socket.socket, calls: int, heads: list[bytes], reply: bytes = b"{}") -> None:
    """Answer so many calls on one connection, and keep what was sent."""
    with listener, listener.accept()[0] as connection:
        for _ in range(calls):
            seen = b""
            while not seen.endswith(b"}"):
                seen += connection.recv(65536)
            heads.append(seen)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))


# What breaks is no success -------------------------------------------------------------------------------------------


def test_a_refusal_is_counted_and_quoted(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, stream("[[bench 5 0 0 0]]"), "-c", "2", "-n", "6", "-e", "5")
    assert (gave["refused"], gave["calls"], gave["chunks"]) == (6, 0, 0)
    assert gave["sample"].startswith("status 500")


def test_a_stream_that_is_cut_is_broken(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, stream("[[bench 9 0 0 4]]"), "-c", "2", "-n", "6", "-e", "9")
    assert (gave["broken"], gave["calls"]) == (6, 0)
    assert gave["chunks"] == backend.counts()["chunks"] == 24


def test_a_stream_with_too_few_chunks_is_short(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, stream("[[bench 9 0 0 -1]]"), "-c", "2", "-n", "6", "-e", "10")
    assert (gave["short"], gave["calls"]) == (6, 0)


def test_a_stream_without_its_end_is_short(load: Loader) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    answering = threading.Thread(target=answer, args=(listener, 1, [], b"data: ~000000001\n\n"))
    answering.start()
    gave = load(f"http://127.0.0.1:{listener.getsockname()[1]}/", PLAIN, "-c", "1", "-n", "1", "-e", "1")
    answering.join()
    assert (gave["short"], gave["calls"], gave["chunks"]) == (1, 0, 1)


def test_nobody_there_is_broken_and_not_asked_without_pause(load: Loader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gave = load(f"http://127.0.0.1:{port}/", PLAIN, "-c", "2", "-t", "0.3")
    assert gave["calls"] == 0 and 2 <= gave["broken"] < 100


def test_something_that_is_not_http_is_broken(load: Loader) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"220 mail ready\r\n\r\n")

    speaking = threading.Thread(target=speak)
    speaking.start()
    gave = load(f"http://127.0.0.1:{listener.getsockname()[1]}/", PLAIN, "-c", "1", "-n", "1")
    speaking.join()
    assert (gave["broken"], gave["calls"]) == (1, 0)


def test_a_plan_is_what_the_backend_reads(backend: Backend, load: Loader) -> None:
    gave = load(backend.url, body("m", Plan(6)), "-c", "1", "-n", "2", "-e", "6")
    assert (gave["calls"], gave["chunks"]) == (2, 12)


def test_a_peer_that_closes_after_each_reply_is_called_again(load: Loader) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        with listener:
            for _ in range(5):
                with listener.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}")

    speaking = threading.Thread(target=speak)
    speaking.start()
    gave = load(f"http://127.0.0.1:{listener.getsockname()[1]}/", PLAIN, "-c", "1", "-n", "5")
    speaking.join()
    assert (gave["broken"], gave["calls"]) == (0, 5)


def test_callers_that_leave_in_the_middle_do_no_harm(backend: Backend, load: Loader) -> None:
    document = stream("[[bench 500 1000 0 -1]]")
    for _ in range(4):
        gave = load(backend.url, document, "-c", "200", "-t", "0.3", "-e", "500", "-g", "0")
        assert (gave["broken"], gave["unfinished"]) == (0, 200)
    counts = backend.counts()
    while counts["left"] < 800:
        counts = backend.counts()
    assert (counts["streams"], counts["streams_done"]) == (800, 0)
