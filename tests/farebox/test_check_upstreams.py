"""Backends under the doctor's eyes: real sockets that answer, refuse, stall, or are not there."""

from __future__ import annotations

import pytest

from config.catalog import Upstream
from farebox import check_upstreams
from farebox.check_upstreams import look_at_upstreams
from farebox.findings import Found
from tests.backend import Backend, Cut, Stall, error, json_answer

SECRET = "sk-hunter2"


def upstream(url: str, **more: object) -> Upstream:
    return Upstream("u", url, allow_private=True, **more)  # type: ignore[arg-type]


async def only(given: Upstream) -> Found:
    (found,) = await look_at_upstreams([given])
    return found


async def test_a_backend_that_answers_is_asked_for_its_models_with_its_key(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAREBOX_TEST_KEY", SECRET)
    backend.answer = json_answer({"data": []})
    found = await look_at_upstreams([upstream(backend.url, api_key_env="FAREBOX_TEST_KEY", headers={"x-team": "a"})])
    assert [(each.verdict, each.says) for each in found] == [("ok", "FAREBOX_TEST_KEY is set"), ("ok", "answers")]
    (seen,) = backend.requests
    assert (seen.method, seen.path, seen.header("authorization")) == ("GET", "/v1/models", f"Bearer {SECRET}")
    assert seen.header("x-team") == "a" and SECRET not in str(found)


@pytest.mark.parametrize(
    ("status", "verdict", "said"),
    [
        (401, "warning", "refuses the key"),
        (403, "warning", "refuses the key"),
        (404, "note", "has no list of models"),
        (500, "warning", "answers with 500"),
    ],
)
async def test_what_it_answers_is_told(backend: Backend, status: int, verdict: str, said: str) -> None:
    backend.answer = error(status, "no")
    found = await only(upstream(backend.url))
    assert found.verdict == verdict and said in found.says


async def test_a_backend_that_says_nothing_is_waited_for_a_while(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_upstreams, "_TIMEOUT_S", 0.3)
    backend.answer = [Stall()]
    found = await only(upstream(backend.url))
    assert found.verdict == "warning" and "does not answer within" in found.says


async def test_a_backend_that_hangs_up_is_told(backend: Backend) -> None:
    backend.answer = [Cut()]
    assert (await only(upstream(backend.url))).verdict == "warning"


async def test_a_backend_that_is_not_there_is_an_error() -> None:
    found = await only(upstream("http://127.0.0.1:9/v1"))
    assert found.verdict == "error" and "cannot be reached" in found.says


async def test_a_name_that_leads_nowhere_is_an_error() -> None:
    found = await only(upstream("http://a..b/v1"))
    assert found.verdict == "error" and "a..b leads nowhere" in found.says


async def test_a_private_address_that_nobody_allowed_is_not_asked(backend: Backend) -> None:
    found = await only(Upstream("u", backend.url))
    assert found.verdict == "error" and "127.0.0.1" in found.says and "allow_private" in found.says
    assert backend.requests == [] and backend.connections == 0


async def test_a_key_that_is_not_here_is_an_error(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAREBOX_TEST_KEY", raising=False)
    backend.answer = json_answer({"data": []})
    found = await look_at_upstreams([upstream(backend.url, api_key_env="FAREBOX_TEST_KEY")])
    assert [each.verdict for each in found] == ["error", "ok"] and "FAREBOX_TEST_KEY" in found[0].says


async def test_headers_that_the_gateway_would_refuse_are_an_error() -> None:
    found = await only(upstream("http://127.0.0.1:9/v1", headers={"host": "elsewhere"}))
    assert found.verdict == "error" and "host" in found.says


async def test_many_are_looked_at_together_and_told_in_their_order(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_upstreams, "_TIMEOUT_S", 6.0)
    backend.answer = lambda seen: [Stall()] if "slow" in seen.path else json_answer({"data": []})
    given = [Upstream(f"u{n}", f"{backend.url}/{'slow' if n % 2 else 'quick'}", allow_private=True) for n in range(20)]
    found = await look_at_upstreams(given)
    assert [each.subject for each in found] == [each.name for each in given]
    assert [each.verdict for each in found] == ["ok", "warning"] * 10
