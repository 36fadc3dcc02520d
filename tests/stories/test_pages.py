"""The pages people come to: the price list, and by the link in a sentence their own account, for a while, and nobody
else's. And the list of models a chat page lives on, with nobody left to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from gateway.calllog import CallLog
from gateway.links import Links
from tests import house
from tests.backend import Backend
from tests.house import PEPPER, PERSONAL, Answer, Caller, Farebox, until
from tests.ledger.proxy import Wire

EVIL = "<script>alert(1)</script>"
LISTED = """
[[models]]
id = "hidden"
upstream = "main"
listed = false
prices = { input = "1.00", output = "2.00" }

[[tiers]]
name = "internal"
listed = false

[[tiers]]
name = "paced"
title = "Paced"
price = "12.50"
models = ["small"]
windows = [{ limit = 20, of = "requests", per = "minute" }]
concurrency = 3
allowance = { tokens = 100_000, every = "month" }
"""
PAGE = "https://chat.example.org"
LINKS = Links(PEPPER.encode(), "https://fare.example", 900)


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    more = {"cors_origins": PAGE}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=LISTED, **more) as running:
        yield running


async def opened(farebox: Farebox, token: str, headers: dict[str, str] | None = None) -> Answer:
    return await farebox.get(f"/account?token={token}", headers)


def text(answer: Answer) -> str:
    return answer.body.decode()


async def link_of(farebox: Farebox, caller: Caller) -> str:
    """The token in what a refusal tells this caller."""
    answer = await farebox.chat(caller, model="large")
    assert answer.status in (402, 403), answer.body
    assert answer.error["message"].endswith(answer.error["farebox"]["upgrade_url"])
    return str(answer.error["farebox"]["upgrade_url"]).removeprefix(PERSONAL)


# The price list -----------------------------------------------------------------------------------------------------


async def test_everybody_reads_the_prices_and_nothing_that_is_not_listed(farebox: Farebox) -> None:
    page = await farebox.get("/pricing", {"accept-language": "de-AT, en;q=0.5"})
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    said = text(page)
    for each in ('lang="de"', "0.15", "12.5000 USD im Monat", "20 Anfragen pro Minute", "Paced", "embed"):
        assert each in said, each
    for hidden in ("hidden", "internal", "unpriced", backend_of(farebox)):
        assert hidden not in said, hidden
    assert "script" not in said and "set-cookie" not in page.headers
    assert page.headers["cache-control"] == "public, max-age=60"


def backend_of(farebox: Farebox) -> str:
    return farebox.run.gateway.parts.catalog().upstreams["main"].base_url


async def test_the_same_is_a_document_for_programs(farebox: Farebox) -> None:
    document = (await farebox.get("/api/public/pricing?lang=fa")).json()
    assert (document["currency"], document["language"]) == ("USD", "fa")
    models = {model["id"]: model for model in document["models"]}
    assert set(models) == {"embed", "flat", "large", "small"}
    assert models["small"]["pricing"] == {"input": "0.15", "cache_read": "0.075", "output": "0.60"}
    assert models["flat"]["per_request"] == "0.0100"
    tiers = {tier["name"]: tier for tier in document["tiers"]}
    assert "internal" not in tiers and tiers["paced"]["models"] == ["small"]
    assert tiers["paced"]["allowance"] == {"unit": "tokens", "amount": 100_000, "every": "month"}


async def test_a_change_of_the_catalogue_is_seen_and_a_retired_tier_is_gone(farebox: Farebox) -> None:
    assert "Paced" in text(await farebox.get("/pricing"))
    assert (await farebox.admin.delete("/tiers/paced", match='"1"')).status in (200, 204)

    async def gone() -> bool:
        return "Paced" not in text(await farebox.get("/pricing"))

    await until(gone)


async def test_persian_runs_from_right_to_left(farebox: Farebox) -> None:
    assert 'lang="fa" dir="rtl"' in text(await farebox.get("/pricing?lang=fa-IR"))
    assert 'lang="en" dir="ltr"' in text(await farebox.get("/pricing?lang=../../etc", {"accept-language": ";;q=,,"}))


# One's own account --------------------------------------------------------------------------------------------------


async def test_the_link_of_a_refusal_opens_the_persons_own_account(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free", usd="1.00", name="Ada")
    assert (await farebox.chat(ada, model="flat")).status == 200
    await farebox.settled()
    await farebox.accounts.change_user(ada.user.id, name=EVIL)
    answer = await opened(farebox, await link_of(farebox, ada))
    assert answer.status == 200
    said = text(answer)
    for each in ("1.0900 USD", "0.0900 USD", "-0.0100 USD", "1.0000 USD", "Payment", "Usage", "Allowance"):
        assert each in said, each
    assert "<script" not in said and 'class="now"' in said
    headers = answer.headers
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-robots-tag"] == "noindex"


async def test_a_token_is_written_into_no_log(
    farebox: Farebox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(CallLog, "write", lambda log, line: lines.append(str(line)))
    caplog.set_level("DEBUG")
    ada = await farebox.caller(tier="free")
    token = await link_of(farebox, ada)
    assert (await opened(farebox, token)).status == 200
    assert (await opened(farebox, token[:-4])).status == 403
    await farebox.settled()
    written = "".join(lines) + caplog.text
    assert "model_not_allowed" in written and token[:-4] not in written


async def test_this_months_usage_is_told_by_model(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    for model in ("flat", "flat", "small"):
        assert (await farebox.chat(ada, model=model)).status == 200
    await farebox.settled()
    token = await link_of(farebox, ada)

    async def counted() -> bool:
        said = text(await opened(farebox, token)).partition("This month by model")[2]
        return "0.0200 USD" in said and "<bdi>small</bdi>" in said

    await until(counted)


async def test_a_link_opens_one_page_and_nothing_else(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(tier="free", name="Ada"), await farebox.caller(tier="free", name="Bob")
    token = await link_of(farebox, ada)
    assert "Ada" in text(await opened(farebox, token)) and "Bob" not in text(await opened(farebox, token))
    for path in ("/v1/account", "/v1/models", "/admin/api/v1/users"):
        for headers in ({"authorization": f"Bearer {token}"}, {"x-api-key": token}):
            assert (await farebox.get(path, headers)).status == 401
            assert (await farebox.get(f"{path}?token={token}")).status == 401
    assert (await farebox.chat({"authorization": f"Bearer {token}"})).status == 401
    assert (await farebox.post(f"/account?token={token}", {}, {})).status == 405
    proof = LINKS.token(bob.user.id)[-8:]
    forged = LINKS.token(ada.user.id)[:-8] + proof
    for wrong in ("", "x", forged, token + "A", token[:-2], Links(PEPPER.encode(), "", -1).token(ada.user.id)):
        refused = await opened(farebox, wrong)
        assert refused.status == 403 and "A fresh one comes with" in text(refused)
        assert "Ada" not in text(refused) and refused.headers["cache-control"] == "no-store"
    assert (await opened(farebox, LINKS.token(UUID(int=7)))).status == 403


async def test_whoever_may_not_call_any_more_has_no_page(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    token = LINKS.token(ada.user.id)
    assert (await opened(farebox, token)).status == 200
    await farebox.accounts.set_status(ada.user.id, "suspended")

    async def shut() -> bool:
        return (await opened(farebox, token)).status == 403

    await until(shut)


async def test_the_page_speaks_the_persons_language_and_marks_of_a_copied_address_do_no_harm(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    await farebox.accounts.change_user(ada.user.id, language="fa")
    token = LINKS.token(ada.user.id)

    async def persian() -> bool:
        return 'dir="rtl"' in text(await opened(farebox, token + "%E2%81%A9", {"accept-language": "en"}))

    await until(persian)
    assert 'lang="de"' in text(await farebox.get(f"/account?token={token}&lang=de"))


async def test_in_a_group_that_shares_its_wallet_everybody_sees_the_own_calls_alone(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(tier="paid", name="Ada"), await farebox.caller(tier="paid", name="Bob")
    group = (await farebox.accounts.create_group(name="Team", shared=True)).group
    await farebox.bank.credit(group.wallet_id, 5 * 10**9, "paid", source="test", funding="cash:test")
    for each in (ada, bob):
        await farebox.accounts.add_member(group.id, each.user.id)

    async def shared() -> bool:
        return (await farebox.chat(bob, model="large")).status == 200 and (
            "Team" in text(await opened(farebox, LINKS.token(ada.user.id)))
        )

    await until(shared)
    assert (await farebox.chat(ada, model="flat")).status == 200
    await farebox.settled()
    said = text(await opened(farebox, LINKS.token(ada.user.id)))
    lines = said.partition("The last entries")[2].partition("Plans")[0]
    assert "flat" in lines and "large" not in lines and "Payment" not in lines


# Web pages and the list of models -----------------------------------------------------------------------------------


async def test_a_browser_of_an_allowed_page_may_call(farebox: Farebox) -> None:
    ada = await farebox.caller()
    asks = {"origin": PAGE, "access-control-request-method": "POST"}
    asks |= {"access-control-request-headers": "authorization,content-type"}
    async with farebox.http.options(f"{farebox.url}/v1/chat/completions", headers=asks) as reply:
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, PAGE)
    answer = await farebox.chat({**ada.headers, "origin": PAGE})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "x-farebox-cost" in answer.headers["access-control-expose-headers"] and answer.headers["x-farebox-cost"]
    refused = await farebox.chat({"origin": PAGE})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    other = await farebox.chat({**ada.headers, "origin": "https://evil.example"})
    assert other.status == 200 and "access-control-allow-origin" not in other.headers
    assert "vary" not in (await farebox.chat(ada)).headers


async def test_a_service_gets_its_list_with_bank_and_redis_away(
    data_dir: Path, database_url: str, backend: Backend
) -> None:
    wire = Wire(database_url)
    await wire.mend()
    async with house.farebox(data_dir, wire.url, "redis://127.0.0.1:1/0", backend.url) as farebox:
        service = {"authorization": f"Bearer {await farebox.service()}"}
        known = await farebox.get("/v1/models", {**service, "x-openwebui-user-id": "u-1"})
        assert known.status == 200
        await wire.cut()

        async def away() -> bool:
            return (await farebox.get("/readyz")).status == 503

        await until(away)
        for _ in range(20):
            answer = await farebox.get("/v1/models", {**service, "x-openwebui-user-id": "u-2"})
            assert (answer.status, answer.body) == (200, known.body)
        await wire.mend()
    await wire.cut()
