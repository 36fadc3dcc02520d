"""What people of a chat page see beside their answers: notices, in their language, once; cost and balance of their own;
and the one sentence with which an answer stops where the money ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from accounts.users import Sighting
from gateway.language import language_of
from gateway.links import Links
from ledger.money import parse_usd
from tests import house
from tests.backend import Backend, Gate, chat
from tests.backend import stream as script
from tests.house import PEPPER, Caller, Farebox
from tests.streams import DONE, delta, events, stream, text_of, usage

MORE = """
[[tiers]]
name = "poor"
models = ["*"]
allowance = { usd = "0.001", every = "month", zone = "UTC" }

[[tiers]]
name = "tokens"
models = ["*"]
allowance = { tokens = 100, every = "month", zone = "UTC" }

[[tiers]]
name = "own"
models = ["*"]
allowance = { usd = "0.10", every = "month", zone = "UTC" }
upgrade_url = "https://shop.example/more"
sentences = { en = { notice_allowance = "So much: {percent}. {url}" } }
"""
# Of the allowance of somebody poor, this takes 92 per cent.
DEAR = script([delta("Hello"), delta("", "stop"), usage(8, 90), DONE])
LINKS = Links(PEPPER.encode(), "https://fare.example", 900)


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    webui = {"notices": "status", "low_balance_usd": "5"}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=MORE, openwebui=webui) as running:
        yield running


async def person(farebox: Farebox, name: str = "u-1", tier: str = "free", language: str = "en", usd: str = "0") -> Any:
    """A person behind the service, as its headers name her, of this tier and language."""
    key = await farebox.service(realm=f"webui-{name}")
    headers = {
        "authorization": f"Bearer {key}",
        "x-openwebui-user-id": name,
        "x-openwebui-user-name": name,
        "x-openwebui-chat-id": f"chat-{name}",
        "x-openwebui-message-id": f"message-{name}",
    }
    user = await farebox.accounts.sight(Sighting(f"webui-{name}", name))
    await farebox.accounts.change_user(user.id, language=language)
    await farebox.accounts.set_tier(user.id, tier)
    if amount := parse_usd(usd):
        await farebox.bank.credit(user.wallet_id, amount, "paid", source="test", funding="cash:test")
    account = (await farebox.get("/v1/account", headers)).json()
    assert (account["tier"], account["id"]) == (tier, str(user.id))
    return headers


async def asked(farebox: Farebox, headers: dict[str, str] | Caller, model: str = "flat", **more: Any) -> list[Any]:
    """The events of one streamed answer."""
    async with stream(farebox, headers, model=model, stream_options={"include_usage": True}, **more) as reply:
        assert reply.status == 200, await reply.read()
        found = events(await reply.read())
    await farebox.settled()
    return found


def notices(found: list[Any]) -> list[Any]:
    return [each["event"] for each in found if isinstance(each, dict) and "event" in each]


def said(found: list[Any]) -> list[str]:
    return [each["data"]["description"] for each in notices(found)]


async def test_somebody_is_told_once_when_80_and_once_when_95_per_cent_are_used(farebox: Farebox) -> None:
    ada = await person(farebox)
    told = [said(await asked(farebox, ada)) for _ in range(10)]
    assert [len(each) for each in told] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert told[7][0].startswith("80% of your monthly allowance is used, 0.0200 USD is left. It renews on ")
    assert told[9][0].startswith("100% of your monthly allowance is used, 0.0000 USD is left.")
    assert not await farebox.broken()


async def test_a_notice_is_the_last_thing_before_the_end_and_a_chunk_any_client_can_read(
    farebox: Farebox, backend: Backend
) -> None:
    backend.answer = DEAR
    ada = await person(farebox, tier="poor")
    (*_, reported, notice, done) = await asked(farebox, ada, model="large")
    assert done == "[DONE]" and notice["choices"] == [] and reported["usage"]["cost"]
    assert notice["event"]["type"] == "status" and notice["event"]["data"]["done"] is True
    assert "\n" not in notice["event"]["data"]["description"]
    chunk = ChatCompletionChunk.model_validate(notice)
    assert (chunk.choices, chunk.object) == ([], "chat.completion.chunk")


async def test_nobody_else_is_told_anything(farebox: Farebox, backend: Backend) -> None:
    """Each of them crosses the step with this one call."""
    backend.answer = DEAR
    for name in ("x-openwebui-chat-id", "x-openwebui-message-id"):
        ada = await person(farebox, name, tier="poor")
        without = {key: value for key, value in ada.items() if key != name}
        assert not notices(await asked(farebox, without, model="large"))
    bob = await person(farebox, "bob", tier="poor")
    assert not notices(await asked(farebox, {**bob, "x-openwebui-task": "title_generation"}, model="large"))
    direct = await farebox.caller(tier="poor", usd="0")
    assert not notices(await asked(farebox, {**direct.headers, **_labels("direct")}, model="large"))
    backend.answer = chat(usage={"prompt_tokens": 8, "completion_tokens": 90, "total_tokens": 98})
    eve = await person(farebox, "eve", tier="poor")
    whole = await farebox.chat(eve, model="large")
    assert whole.status == 200 and b"event" not in whole.body
    assert len(await farebox.charges()) == 5


def _labels(name: str) -> dict[str, str]:
    return {"x-openwebui-chat-id": f"chat-{name}", "x-openwebui-message-id": f"message-{name}"}


async def test_tokens_are_told_in_tokens(farebox: Farebox) -> None:
    ada = await person(farebox, tier="tokens")
    told = [text for _ in range(7) for text in said(await asked(farebox, ada, model="small", max_tokens=4))]
    assert told and "tokens is left" in told[0] and told[0].startswith(("8", "9"))


async def test_a_tiers_own_words_and_address_are_used_and_the_address_learns_nothing(farebox: Farebox) -> None:
    ada = await person(farebox, tier="own")
    told = [text for _ in range(8) for text in said(await asked(farebox, ada))]
    assert told == ["So much: 80. https://shop.example/more"]


async def test_a_toast_says_the_same_where_that_is_set(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    webui = {"notices": "toast"}
    backend.answer = DEAR
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=MORE, openwebui=webui) as farebox:
        ada = await person(farebox, tier="poor", language="de")
        (notice,) = notices(await asked(farebox, ada, model="large"))
    assert (notice["type"], notice["data"]["type"]) == ("notification", "warning")
    assert notice["data"]["content"].startswith("Ihr monatliches Kontingent ist zu ")


async def test_notices_are_off_where_nobody_asked_for_them(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    backend.answer = DEAR
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=MORE) as farebox:
        ada = await person(farebox, tier="poor")
        assert not notices(await asked(farebox, ada, model="large"))


async def test_a_balance_that_runs_low_is_told_once_until_it_was_filled_again(farebox: Farebox) -> None:
    ada = await person(farebox, tier="paid", usd="5.01")
    told = [said(await asked(farebox, ada)) for _ in range(4)]
    assert [len(each) for each in told] == [0, 1, 0, 0]
    assert told[1][0].startswith("Your balance is down to 4.9900 USD. Top up: https://fare.example/account?token=")
    (row,) = await farebox.rows("SELECT wallet_id FROM users WHERE realm = 'webui-u-1'")
    await farebox.bank.credit(row["wallet_id"], 40_000_000, "paid", source="more", funding="cash:test")
    told = [said(await asked(farebox, ada)) for _ in range(3)]
    assert [len(each) for each in told] == [0, 1, 0]


async def test_two_people_at_once_see_their_own_cost_balance_notice_and_link(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await person(farebox, "ada", tier="paid", usd="5.005")
    bob = await person(farebox, "bob", tier="paid", usd="3", language="fa")
    gate = asyncio.Event()
    backend.then(
        script([delta("to Ada"), Gate(gate), delta("!", "stop"), usage(8, 1000), DONE]),
        script([delta("to Bob"), Gate(gate), delta("!", "stop"), usage(8, 2000), DONE]),
    )
    more: dict[str, Any] = {"model": "large", "stream_options": {"include_usage": True}}
    async with stream(farebox, ada, **more) as first:
        await first.content.readany()
        async with stream(farebox, bob, **more) as second:
            await second.content.readany()
            gate.set()
            replies = await asyncio.gather(first.read(), second.read())
    seen = []
    for body, name, cost, balance in zip(
        replies, ("ada", "bob"), ("0.01002", "0.02002"), ("4.99498", "2.97998"), strict=True
    ):
        found = events(body)
        (reported,) = [each["usage"] for each in found if isinstance(each, dict) and each.get("usage")]
        assert (reported["cost"], reported["balance"]) == (cost, balance)
        (told,) = said(found)
        assert f"{balance[:6]} USD" in told
        opened = LINKS.read(told.partition("token=")[2])
        assert opened is not None
        (row,) = await farebox.rows("SELECT id FROM users WHERE realm = :realm", realm=f"webui-{name}")
        assert opened.user_id == row["id"]
        seen.append(told)
    assert seen[0].startswith("Your balance") and seen[1].startswith("\u2067موجودی شما")
    assert not await farebox.broken()


@pytest.mark.parametrize("language", ["en", "fa", "de", "zh"])
async def test_an_answer_that_is_cut_keeps_its_text_and_says_why_in_the_persons_language(
    farebox: Farebox, backend: Backend, language: str
) -> None:
    words = [f"word{n % 10} and " for n in range(2000)]
    backend.answer = script([*map(delta, words), delta("", "stop"), usage(8, 9000), DONE])
    ada = await person(farebox, tier="poor", language=language)
    async with stream(farebox, ada, model="large") as reply:
        body = await reply.read()
    *_, refusal, done = events(body)
    assert done == "[DONE]" and "".join(words).startswith(text_of(body)) and len(text_of(body)) > 20
    message = refusal["error"]["message"]
    begins = language_of(language)._document["sentences"]["cut_allowance"].partition("{url}")[0]
    assert message.lstrip("\u2067").startswith(begins) and "https://fare.example/account?token=" in message
    assert LINKS.read(message.partition("token=")[2]) is not None
    assert not notices(events(body))


async def test_a_refusal_before_the_first_byte_speaks_the_persons_language(farebox: Farebox) -> None:
    ada = await person(farebox, tier="paid", language="fa")
    answer = await farebox.chat(ada, model="flat")
    assert answer.status == 402 and answer.error["message"].startswith("\u2067موجودی شما (\u20680.0000 USD\u2069)")
    assert answer.error["message"].endswith("\u2069") and "\u2068https://" in answer.error["message"]
