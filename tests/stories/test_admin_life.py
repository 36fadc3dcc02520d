"""The whole life of a user, as an admin lives it over HTTP: a tier and a price are made, a user appears, spends, is
refused, is upgraded, spends again, is refunded, exported, suspended. At each step the numbers that the admin API tells
are the sums of the ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from ledger.roller import Roller
from tests import house
from tests.backend import Backend
from tests.house import Admin, Answer, Farebox, until

NANO = Decimal(10**9)
INPUT, OUTPUT = 1000, 2000  # nano-USD a token, at 1.00 and 2.00 USD per 1M
STARTER = {
    "name": "starter",
    "models": ["mini"],
    "allowance": {"usd": "0.0001", "every": "month", "zone": "Asia/Kolkata"},
    "windows": [{"limit": 1000, "of": "requests", "per": "hour"}],
    "upgrade_to": "plus",
}
PLUS = {"name": "plus", "title": "Plus", "allowance": {"usd": "1.00", "every": "month"}, "markup": "1.5"}


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A Farebox whose users begin with a tier that nobody has made yet."""
    async with house.farebox(data_dir, database_url, redis_url, backend.url, default_tier="starter") as running:
        yield running


@dataclass(slots=True)
class Life:
    """One user of a service, the admin who looks after it, and the ledger that has the last word."""

    farebox: Farebox
    service: str
    user_id: str = ""
    answers: list[Answer] = field(default_factory=list)

    @property
    def admin(self) -> Admin:
        return self.farebox.admin

    @property
    def path(self) -> str:
        return f"/users/{self.user_id}"

    async def chat(self) -> Answer:
        """One call, as the service makes it for its user."""
        headers = {"authorization": f"Bearer {self.service}", "x-openwebui-user-id": "u-1"}
        answer = await self.farebox.chat(headers | {"x-openwebui-user-email": "ada@example.org"}, model="mini")
        self.answers.append(answer)
        return answer

    async def user(self) -> Any:
        return await self.admin.read(self.path)

    async def sum(self, what: str) -> Decimal:
        """One sum of the ledger that concerns this user, in USD."""
        (row,) = await self.farebox.rows(what, user=self.user_id)
        return Decimal(row["sum"] or 0) / NANO

    async def agree(self) -> Any:
        """The user as the API tells of it, once every number of it was found in the ledger."""
        await self.farebox.settled()
        await until(self._counted)
        user = await self.user()
        wallet = await self.sum("SELECT spendable AS sum FROM wallets JOIN users u ON wallet_id = wallets.id" + _MINE)
        grants = await self.sum("SELECT sum(remaining) FROM grants JOIN users u USING (wallet_id)" + _MINE)
        posted = await self.sum("SELECT -sum(amount) AS sum FROM postings JOIN users u USING (wallet_id)" + _MINE)
        charged = await self.sum("SELECT sum(amount) FROM charges WHERE user_id = :user")
        lines = await every(self.admin, f"{self.path}/ledger")
        charges = await every(self.admin, "/charges", user=self.user_id)
        assert usd(user["balance"]["spendable"]) == wallet == grants == posted
        assert sum(usd(grant["remaining"]) for grant in user["grants"]) == wallet
        assert sum(usd(line["amount"]) for line in lines) == wallet
        assert usd(user["this_month"]["amount"]) == sum(usd(charge["amount"]) for charge in charges) == charged
        assert user["this_month"]["calls"] == len(charges)
        steps = (await self.admin.read(f"{self.path}/usage", by="day"))["data"]
        assert sum(usd(step["amount"]) for step in steps) == charged
        overview = await self.admin.read("/stats/overview")
        assert usd(overview["month"]["charged"]) == charged and usd(overview["money"]["liabilities"]) == wallet
        return user

    async def _counted(self) -> bool:
        await Roller(self.farebox.engine).roll()
        return not await self.farebox.rows("SELECT 1 FROM charges_to_roll LIMIT 1")


_MINE = " WHERE u.id = :user"


def usd(text: str) -> Decimal:
    return Decimal(text)


async def every(admin: Admin, path: str, **query: Any) -> list[Any]:
    """A whole list, read in small pages."""
    found: list[Any] = []
    cursor = None
    while True:
        page = await admin.read(path, limit=3, cursor=cursor, **query)
        found += page["data"]
        if (cursor := page["next_cursor"]) is None:
            return found


def cost(answer: Answer, markup: str = "1") -> Decimal:
    """What a reply must have cost, from the usage it reports."""
    usage = answer.json()["usage"]
    nano = Decimal(markup) * (usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT)
    assert nano == int(nano)
    return Decimal(int(nano)) / NANO


async def begun(farebox: Farebox) -> Life:
    """An admin makes a model with its price, two tiers and the key of a service."""
    admin = farebox.admin
    prices = {"input": "1.00", "output": "2.00"}
    await admin.made("/models", {"id": "mini", "upstream": "main", "prices": prices})
    for tier in (PLUS, STARTER):
        assert (await admin.post("/tiers", tier)).status == 201
    key = await admin.made("/keys", {"name": "chat", "realm": "chat", "plain_headers": True})
    return Life(farebox, key["key"])


async def appears(life: Life) -> None:
    """The user's first call makes its account."""

    async def answered() -> bool:
        return (await life.chat()).status == 200

    await until(answered)
    (user,) = await every(life.admin, "/users", search="ada@example.org")
    life.user_id = user["id"]
    assert (user["realm"], user["subject"], user["tier"], user["tier_pinned"]) == ("chat", "u-1", "starter", False)


async def spends_until_refused(life: Life) -> Answer:
    """Calls pass while the allowance lasts; each is charged what it reports, and the first that is not paid is told."""
    before = await life.agree()
    for _ in range(20):
        told = await life.admin.read(f"{life.path}/explain", model="mini")
        answer = await life.chat()
        assert told["can_make_request"] == (answer.status == 200)
        after = await life.agree()
        if answer.status != 200:
            assert after["balance"] == before["balance"] and told["code"] == answer.error["code"]
            return answer
        assert usd(before["balance"]["spendable"]) - usd(after["balance"]["spendable"]) == cost(answer)
        before = after
    raise AssertionError("nobody refused anything")


async def test_a_user_from_its_first_call_to_its_suspension(farebox: Farebox) -> None:
    life = await begun(farebox)
    await appears(life)
    first = await life.agree()
    assert (first["in_force"]["name"], first["in_force"]["why"]) == ("starter", "default")
    assert usd(first["balance"]["spendable"]) == Decimal("0.0001") - cost(life.answers[-1])

    refusal = await spends_until_refused(life)
    assert (refusal.status, refusal.error["code"]) == (402, "allowance_exhausted")
    assert refusal.error["farebox"]["upgrade_tier"] == "plus"
    poor = await life.agree()
    assert (poor["status"]["can_make_request"], poor["status"]["code"]) == (False, "allowance_exhausted")
    assert poor["allowances"][0]["left"] == poor["balance"]["available"]

    upgraded = await is_upgraded(life)
    assert usd(upgraded["balance"]["spendable"]) == 1
    answer = await spends_dearer(life)
    await is_refunded(life, answer)
    await pays(life)
    await is_exported(life)
    await is_suspended(life)
    await is_all_on_record(life)
    assert [finding.line() for finding in await farebox.broken()] == []


async def is_upgraded(life: Life) -> Any:
    """The other tier's allowance is there at once, and what the old one left is not."""
    seen = await life.admin.get(life.path)
    answer = await life.admin.patch(life.path, {"tier": "plus"}, match=seen.headers["etag"])
    assert answer.status == 200 and answer.json()["tier_pinned"] is True
    upgraded = await life.agree()
    assert (upgraded["in_force"]["name"], upgraded["in_force"]["why"]) == ("plus", "pinned")
    assert upgraded["status"]["can_make_request"] is True
    return upgraded


async def spends_dearer(life: Life) -> Answer:
    """The tier's markup counts; another price holds for the next call, and what was charged keeps its own."""

    async def passes() -> bool:
        return (await life.chat()).status == 200

    await until(passes)
    answer = life.answers[-1]
    after = await life.agree()
    assert 1 - usd(after["balance"]["spendable"]) == cost(answer, "1.5")
    charge, *earlier = await every(life.admin, "/charges", user=life.user_id)
    assert (charge["tier"], usd(charge["amount"])) == ("plus", cost(answer, "1.5"))
    assert {each["tier"] for each in earlier} == {"starter"}
    body = {"prices": {"input": "10.00", "output": "20.00"}}
    assert (await life.admin.post("/models/mini/prices", body)).status == 201
    version = (await life.admin.read(f"/charges/{charge['id']}"))["words"][-1]["price_version"]

    async def dearer() -> bool:
        assert await passes()
        await life.agree()
        newest = (await life.admin.read("/charges", user=life.user_id, limit=1))["data"][0]
        return usd(newest["amount"]) == cost(life.answers[-1], "15")

    await until(dearer)
    again = await life.admin.read(f"/charges/{charge['id']}")
    assert (again["amount"], again["words"][-1]["price_version"]) == (charge["amount"], version)
    return answer


async def is_refunded(life: Life, answer: Answer) -> None:
    """A part, then the rest, each once; then there is nothing left to give back."""
    request_id, whole = answer.headers["x-request-id"], cost(answer, "1.5")
    before = usd((await life.agree())["balance"]["spendable"])
    part = {"amount": "0.00001", "reason": "half of it was cut"}
    for _ in range(2):
        assert (await life.admin.post(f"/charges/{request_id}/refund", part, key="refund-1")).status == 201
    middle = usd((await life.agree())["balance"]["spendable"])
    assert middle - before == Decimal("0.00001")
    await life.admin.made(f"/charges/{request_id}/refund", {"reason": "all of it"}, key="refund-2")
    after = usd((await life.agree())["balance"]["spendable"])
    assert after - before == whole
    assert (await life.admin.post(f"/charges/{request_id}/refund", {"reason": "more"})).status == 409
    refunded = await life.sum(
        "SELECT sum(r.amount) FROM refunds r JOIN charges USING (request_id) WHERE user_id = :user"
    )
    overview = await life.admin.read("/stats/overview")
    assert refunded == whole == usd(overview["month"]["refunded"])


async def pays(life: Life) -> None:
    """Money by hand: paid in, given with an end, taken; what is used first is what ends first."""
    before = usd((await life.agree())["balance"]["spendable"])
    for kind, amount in (("payment", "5.00"), ("grant", "0.50"), ("deduct", "0.25")):
        more = {"expires_at": "2199-01-01T00:00:00Z"} if kind == "grant" else {}
        body = {"kind": kind, "amount": amount, "reason": "by hand", **more}
        for _ in range(2):
            assert (await life.admin.post(f"{life.path}/credits", body, key=f"{kind}-1")).status == 201
    after = await life.agree()
    assert usd(after["balance"]["spendable"]) - before == Decimal("5.25")
    credits = await every(life.admin, f"{life.path}/credits")
    assert [usd(each["amount"]) for each in credits] == [Decimal("-0.25"), Decimal("0.5"), Decimal(5)]
    cash = await life.sum("SELECT sum(amount) FROM postings WHERE account LIKE 'cash:%' AND :user <> ''")
    assert cash == 5


async def is_exported(life: Life) -> None:
    """What a spreadsheet adds up is what the ledger has."""
    user = await life.agree()
    ledger = await life.admin.get(f"{life.path}/ledger", format="csv")
    rows = list(csv.DictReader(io.StringIO(ledger.body.decode())))
    assert sum(usd(row["amount"]) for row in rows) == usd(user["balance"]["spendable"])
    charges = await life.admin.get("/charges", user=life.user_id, format="xlsx")
    sheet = load_workbook(io.BytesIO(charges.body), read_only=True).worksheets[0]
    heading, *lines = list(sheet.values)
    amounts = [Decimal(repr(line[heading.index("amount")])) for line in lines]
    assert sum(amounts) == await life.sum("SELECT sum(amount) FROM charges WHERE user_id = :user")
    users = list(csv.DictReader(io.StringIO((await life.admin.get("/users", format="csv")).body.decode())))
    assert [row["id"] for row in users] == [life.user_id]


async def is_suspended(life: Life) -> None:
    """Nothing is charged any more, and the money stays."""
    before = await life.agree()
    assert (await life.admin.patch(life.path, {"status": "suspended"})).status == 200

    async def refused() -> bool:
        answer = await life.chat()
        return answer.status == 403 and answer.error["code"] == "account_suspended"

    await until(refused)
    after = await life.agree()
    assert (after["status"]["state"], after["status"]["can_make_request"]) == ("suspended", False)
    assert after["status"]["message"] == life.answers[-1].error["message"]
    assert usd(after["balance"]["spendable"]) <= usd(before["balance"]["spendable"])


async def is_all_on_record(life: Life) -> None:
    """Every write has its row in the audit, in order, and the chain is whole."""
    rows = (await every(life.admin, "/audit"))[::-1]
    mine = [row["action"] for row in rows if row["target_id"] == life.user_id]
    assert mine == ["user.tier", "user.status"]
    done = [row["action"] for row in rows if row["actor"] == "admin-key"]
    assert done == [
        "model.create",
        *("tier.create", "tier.create"),
        "key.create",
        "user.tier",
        "model.price",
        *("charge.refund", "charge.refund"),
        *("credit.payment", "credit.grant", "credit.deduct"),
        "user.status",
    ]
    assert (await life.admin.read("/audit/verify")) == {"holds": True, "looked_at": len(rows), "broken": []}
