"""What an operator sees: the contract's metrics with true values, one line a call, and never a secret or a prompt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import calllog
from tests import house
from tests.backend import Backend, Cut, Gate, chat, error
from tests.house import PEPPER, Farebox, until

UPSTREAM_KEY = "sk-upstream-0123456789"
PROMPT = "the quick brown prompt"
Opener = Callable[..., AbstractAsyncContextManager[Farebox]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

NAMES = {
    "farebox_requests_total": {"route", "model", "tier", "status", "code"},
    "farebox_tokens_total": {"model", "tier", "kind", "source"},
    "farebox_charged_usd_total": {"model", "tier"},
    "farebox_refusals_total": {"code", "tier"},
    "farebox_overhead_seconds_count": {"phase"},
    "farebox_ttft_seconds_count": {"model"},
    "farebox_upstream_seconds_count": {"model", "upstream"},
    "farebox_uncharged_total": {"reason"},
    "farebox_streams_open": set(),
    "farebox_holds_open": set(),
    "farebox_holds_usd": set(),
    "farebox_posting_lag_seconds": set(),
    "farebox_spool_events": set(),
    "farebox_ledger_drift_usd": set(),
    "farebox_default_partition_rows": set(),
    "farebox_limiter_degraded": set(),
    "farebox_limiter_corrections_lost_total": set(),
    "farebox_call_lines_dropped_total": set(),
}


@pytest.fixture
async def open_house(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> Opener:
    """Open a gateway whose backend takes a key."""
    monkeypatch.setenv("FAREBOX_TEST_UPSTREAM_KEY", UPSTREAM_KEY)

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Farebox]:
        async with house.farebox(data_dir, database_url, redis_url, backend.url, **settings) as farebox:
            yield farebox

    return opened


async def scraped(farebox: Farebox) -> Samples:
    text = (await farebox.get("/metrics")).body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def every_kind_of_call(farebox: Farebox, backend: Backend) -> None:
    """An answer, a stream, a refusal before and after admission, a failure, an odd report."""
    ada, bob = await farebox.caller(), await farebox.caller(tier="free", name="Bob")
    await farebox.chat(ada, PROMPT)
    await farebox.chat(ada, PROMPT, stream=True)
    await farebox.chat(bob, PROMPT, model="large")
    await farebox.chat({"authorization": "Bearer sk-wrong"}, PROMPT)
    await farebox.post("/v1/chat/completions", f'{{"model": "{PROMPT}"'.encode(), ada)
    backend.then(error(500, PROMPT))
    await farebox.chat(ada, PROMPT)
    backend.then([Cut()])
    await farebox.chat(ada, PROMPT)
    await farebox.settled()


# Metrics ------------------------------------------------------------------------------------------------------------


async def test_the_metrics_of_the_contract_are_there_with_their_labels_and_true_values(
    open_house: Opener, backend: Backend
) -> None:
    async with open_house() as farebox:
        await every_kind_of_call(farebox, backend)
        backend.then(chat(usage={"prompt_tokens": 5, "completion_tokens": -1, "total_tokens": 4}))
        await farebox.chat(await farebox.caller(name="Carol"))
        await farebox.settled()
        samples = await scraped(farebox)
    for name, labels in NAMES.items():
        found = [set(dict(known)) for given, known in samples if given == name]
        assert found and all(each == labels for each in found), name
    ended = {"route": "chat.completions", "model": "small"}
    assert value(samples, "farebox_requests_total", **ended, tier="paid", status="200", code="") == 3
    assert value(samples, "farebox_requests_total", **ended, tier="paid", status="502", code="upstream_error") == 2
    assert value(samples, "farebox_refusals_total", code="model_not_allowed", tier="free") == 1
    assert value(samples, "farebox_refusals_total", code="invalid_api_key", tier="unknown") == 1
    assert value(samples, "farebox_refusals_total", code="invalid_request", tier="unknown") == 1
    tokens = {"model": "small", "tier": "paid", "source": "reported"}
    assert value(samples, "farebox_tokens_total", **tokens, kind="input") >= 22
    assert value(samples, "farebox_tokens_total", **tokens, kind="output") >= 6
    assert value(samples, "farebox_charged_usd_total", model="small", tier="paid") >= 2 * 3450 / 10**9
    assert value(samples, "farebox_ttft_seconds_count", model="small") == 3
    assert value(samples, "farebox_upstream_seconds_count", model="small", upstream="main") == 5
    assert value(samples, "farebox_overhead_seconds_count", phase="before") == 5
    for gauge in ("streams_open", "holds_open", "holds_usd", "posting_lag_seconds", "spool_events", "ledger_drift_usd"):
        assert value(samples, f"farebox_{gauge}") == 0


async def test_charged_usd_is_what_the_ledger_charged(open_house: Opener) -> None:
    async with open_house() as farebox:
        ada = await farebox.caller()
        for _ in range(7):
            await farebox.chat(ada)
        total = sum(charge["amount"] for charge in await farebox.charges())
        samples = await scraped(farebox)
    charged = value(samples, "farebox_charged_usd_total", model="small", tier="paid")
    assert round(charged * 10**9) == total == 7 * 3450


async def test_while_a_call_runs_its_stream_and_its_hold_are_open(open_house: Opener, backend: Backend) -> None:
    async with open_house() as farebox:
        ada = await farebox.caller()
        opened = asyncio.Event()
        backend.then(lambda seen: [Gate(opened), *chat()(seen)])
        call = asyncio.create_task(farebox.chat(ada, model="flat"))
        await backend.arrived()
        samples = await scraped(farebox)
        assert value(samples, "farebox_streams_open") == value(samples, "farebox_holds_open") == 1
        assert value(samples, "farebox_holds_usd") == 0.01
        opened.set()
        await call


async def test_no_user_key_or_prompt_is_a_label(open_house: Opener, backend: Backend) -> None:
    async with open_house() as farebox:
        await every_kind_of_call(farebox, backend)
        ada = await farebox.caller()
        for index in range(20):
            await farebox.chat(ada, model=f"made-up-{index}")
        text = (await farebox.get("/metrics")).body.decode()
        users = await farebox.rows("SELECT id, email FROM users")
        keys = await farebox.rows("SELECT id, prefix FROM api_keys")
    for secret in (PROMPT, "made-up", *(str(each) for row in (*users, *keys) for each in row.values())):
        assert secret not in text


async def test_the_metrics_may_have_a_port_of_their_own(open_house: Opener) -> None:
    async with open_house(metrics_bind="127.0.0.1:0") as farebox:
        assert (await farebox.get("/metrics")).status == 404
        assert not farebox.run.metrics_url.startswith(farebox.url)
        async with farebox.http.get(farebox.run.metrics_url) as reply:
            assert reply.status == 200 and reply.content_type == "text/plain"
            assert "farebox_streams_open" in await reply.text()
        async with farebox.http.get(farebox.run.metrics_url.replace("/metrics", "/v1/models")) as reply:
            assert reply.status == 404


# The log ------------------------------------------------------------------------------------------------------------


def lines_of(captured: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in captured.splitlines() if line.startswith('{"at"')]


async def test_a_call_is_one_line_with_all_that_is_known_of_it(
    open_house: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_house() as farebox:
        service = await farebox.service()
        headers = {
            "authorization": f"Bearer {service}",
            "x-openwebui-user-id": "u-1",
            "x-openwebui-chat-id": "chat-1",
            "x-openwebui-task": "title_generation",
        }
        answer = await farebox.chat(headers, PROMPT, stream=True)
        charge = await farebox.charge()
    (line,) = lines_of(capsys.readouterr().out)
    assert line["request_id"] == answer.headers["x-request-id"] == str(charge["request_id"])
    assert (line["event"], line["route"], line["status"], line["code"]) == ("call", "chat.completions", 200, "")
    assert (line["user"], line["key"]) == (str(charge["user_id"]), str(charge["key_id"]))
    assert (line["tier"], line["model"], line["streamed"]) == ("free", "small", True)
    assert (line["chat"], line["task"], line["outcome"]) == ("chat-1", "title_generation", "completed")
    assert (line["usage"], line["usage_source"]) == ({"input": 11, "output": 3}, "reported")
    assert line["cost_usd"] == "0.00000345"
    assert 0 <= line["gateway_ms"] < 5000 and 0 <= line["upstream_ms"] < 5000
    assert datetime.fromisoformat(line["at"]).tzinfo is not None


async def test_every_call_has_its_line(
    open_house: Opener, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_house() as farebox:
        await every_kind_of_call(farebox, backend)
    lines = lines_of(capsys.readouterr().out)
    assert [(line["status"], line["code"]) for line in lines] == [
        (200, ""),
        (200, ""),
        (403, "model_not_allowed"),
        (401, "invalid_api_key"),
        (400, "invalid_request"),
        (502, "upstream_error"),
        (502, "upstream_error"),
    ]
    assert len({UUID(line["request_id"]) for line in lines}) == len(lines)


async def test_lines_that_nobody_takes_are_told_by_a_metric(
    open_house: Opener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calllog, "_QUEUE_MAX", 0)
    async with open_house() as farebox:
        ada = await farebox.caller()
        for _ in range(3):
            await farebox.chat(ada)
        await farebox.settled()
        assert value(await scraped(farebox), "farebox_call_lines_dropped_total") == 3
    assert lines_of(capsys.readouterr().out) == []


async def test_a_caller_who_leaves_is_in_the_log_with_what_it_cost(
    open_house: Opener, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_house() as farebox:
        ada = await farebox.caller()
        opened = asyncio.Event()
        backend.then(lambda seen: [Gate(opened)])
        call = asyncio.create_task(farebox.chat(ada))
        await backend.arrived()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await farebox.settled()
    (line,) = lines_of(capsys.readouterr().out)
    assert (line["status"], line["code"], line["outcome"]) == (499, "caller_left", "caller_left")


async def test_no_secret_and_no_prompt_is_in_any_line_or_answer(
    open_house: Opener, backend: Backend, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[bytes] = []
    async with open_house() as farebox:
        ada = await farebox.caller()
        await every_kind_of_call(farebox, backend)
        backend.answer = [b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
        answers += [(await farebox.chat(ada, PROMPT)).body, (await farebox.chat(ada, PROMPT, stream=True)).body]
        async with farebox.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE holds RENAME TO gone")
        answers.append((await farebox.chat(ada, PROMPT)).body)
        async with farebox.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE gone RENAME TO holds")
        answers.append((await farebox.chat({"authorization": f"Bearer {ada.key}x"}, PROMPT)).body)
        await until(lambda: well(farebox, ada.key))
        password = farebox.run.urls.database.partition("//")[2].partition("@")[0].partition(":")[2]
    captured = capsys.readouterr()
    records = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records if ours(record))
    for where in (captured.out, captured.err, caplog.text, records, b" ".join(answers).decode()):
        for secret in (ada.key, ada.key[:-10], UPSTREAM_KEY, PEPPER, PROMPT, *filter(None, [password])):
            assert secret not in where


def ours(record: logging.LogRecord) -> bool:
    """A debug line of a library is its own: this house never turns them on."""
    return record.levelno >= logging.WARNING or record.name.startswith("farebox")


async def well(farebox: Farebox, key: str) -> bool:
    return (await farebox.get("/v1/account", {"authorization": f"Bearer {key}"})).status == 200


async def test_the_backend_gets_its_own_key_and_nobody_else_sees_it(open_house: Opener, backend: Backend) -> None:
    backend.answer = lambda seen: error(400, f"your key was {seen.header('authorization')}")
    async with open_house() as farebox:
        ada = await farebox.caller()
        answer = await farebox.chat(ada)
    assert backend.requests[0].header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert answer.status == 400 and ada.key.encode() not in answer.body
