"""One person's account as a page: plan, money, limits with what is left, this month's usage, the last entries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from gateway.language import Count, Language, Pace
from gateway.page import Html, document, el, table
from gateway.pricing_page import tiers_table
from ledger.money import format_usd, parse_usd
from policies.tier import Tier

_ENTRIES = {
    "charge": "entry_usage",
    "payment": "entry_payment",
    "refund": "entry_refund",
    "grant": "entry_grant",
    "plan": "entry_plan",
}
_SHORT = 10**5  # nano-USD: a summary has four decimals


class Line(Struct, frozen=True):
    """An entry, or a call of the person's own where a group's wallet pays. ``amount`` is nano-USD, or tokens."""

    at: datetime
    kind: str
    amount: int
    currency: str = "USD"
    model: str = ""


class Used(Struct, frozen=True):
    """What was used of one model this month. ``amount`` is nano-USD, or tokens."""

    model: str
    currency: str
    calls: int
    input_tokens: int
    output_tokens: int
    amount: int


class Account(Struct, frozen=True):
    """What the page shows. ``state`` is what ``GET /v1/account`` says, ``tiers`` those that are offered."""

    state: dict[str, Any]
    tier: Tier
    usage: tuple[Used, ...]
    lines: tuple[Line, ...]
    tiers: tuple[Tier, ...]
    pricing_url: str
    until: datetime


def account_page(account: Account, language: Language) -> bytes:
    """The page in the person's language."""
    words, state = language.words, account.state
    group = state["group"]
    body = [
        el("p", el("bdi", state["name"] or state["email"]), class_="soft"),
        el("dl", *_summary(account, language)),
        el("h2", words("limits")),
        _limits(state, language),
        el("h2", words("usage")),
        _usage(account.usage, language),
        el("h2", words("entries")),
        *([el("p", words("shared_wallet", group=group["name"]))] if group and group["shared"] else []),
        _lines(account.lines, language),
        el("h2", words("plans")),
        tiers_table(account.tiers, (), language, account.tier.name) if account.tiers else "",
        el("p", el("a", words("see_prices"), href=account.pricing_url)),
        el("footer", words("valid_until", time=f"{account.until.astimezone(UTC):%H:%M}"), class_="soft"),
    ]
    return document(language, words("account"), *body)


def failed_page(language: Language, key: str, pricing_url: str, **values: Any) -> bytes:
    """One sentence, and the price list."""
    words = language.words
    link = el("p", el("a", words("see_prices"), href=pricing_url))
    return document(language, words("account"), el("p", words(key, **values)), link)


def _summary(account: Account, language: Language) -> Iterator[Html]:
    words, state = language.words, account.state
    yield _fact(words("plan"), account.tier.title or account.tier.name)
    yield _fact(words("balance"), _usd(state["balance"], language))
    for given in (state["allowance"], state["credits"]):
        if given is not None:
            yield _fact(words("allowance"), *_given(given, language))


def _given(given: dict[str, Any], language: Language) -> tuple[str, str]:
    tokens = given["unit"] == "tokens"
    left, amount = (
        language.text(Count(given[name])) if tokens else _usd(given[name], language) for name in ("left", "amount")
    )
    renews = datetime.strptime(given["resets_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return language.words("left_of", left=left, amount=amount), language.words("renews", date=renews)


def _limits(state: dict[str, Any], language: Language) -> Html:
    rows = [_limit(limit, language) for limit in state["limits"]]
    calls = state["concurrency"]
    if calls["limit"]:
        used = "–" if calls["used"] is None else calls["used"]
        rows.append((language.words("open_calls", used=used, limit=calls["limit"]), ""))
    if not rows:
        return el("p", language.words("no_limit"), class_="soft")
    return table((language.words("limits"), ""), rows)


def _limit(limit: dict[str, Any], language: Language) -> tuple[str, str]:
    cost = limit["of"] == "cost"
    pace = Pace(parse_usd(limit["limit"]) if cost else limit["limit"], limit["of"], limit["seconds"])
    only = ", ".join((*((limit["route"],) if limit["route"] else ()), *(limit["models"] or ())))
    said = language.words("on_route", pace=pace, route=only) if only else language.text(pace)
    if limit["left"] is None:
        return said, "–"
    return said, language.words("left_of", left=str(limit["left"]), amount=str(limit["limit"]))


def _usage(usage: Iterable[Used], language: Language) -> Html:
    words = language.words
    rows = [
        (
            el("bdi", row.model),
            _number(row.calls),
            _number(row.input_tokens),
            _number(row.output_tokens),
            _cell(_amount(row.amount, row.currency, language)),
        )
        for row in usage
    ]
    if not rows:
        return el("p", words("nothing_yet"), class_="soft")
    return table((words(key) for key in ("model", "requests", "tokens_in", "tokens_out", "cost")), rows)


def _lines(lines: Iterable[Line], language: Language) -> Html:
    words = language.words
    rows = [
        (
            el("td", el("bdi", f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")),
            el("td", words(_ENTRIES.get(line.kind, "entry_other")), *_of(line.model)),
            _cell(_amount(line.amount, line.currency, language)),
        )
        for line in lines
    ]
    if not rows:
        return el("p", words("nothing_yet"), class_="soft")
    return table((words(key) for key in ("when", "what", "amount")), rows)


def _of(model: str) -> tuple[str, ...]:
    return (" ", el("bdi", model)) if model else ()


def _amount(amount: int, currency: str, language: Language) -> str:
    return f"{format_usd(amount)} USD" if currency == "USD" else language.text(Count(amount))


def _usd(text: str, language: Language) -> str:
    """An amount of ``GET /v1/account`` as a summary shows it."""
    nano = parse_usd(text)
    return f"{format_usd(nano // _SHORT * _SHORT if nano >= _SHORT else nano)} USD"


def _fact(name: str, value: str, *more: str) -> Html:
    return el("div", el("dt", name), el("dd", el("bdi", value), *(el("small", each) for each in more)))


def _number(n: int) -> Html:
    return _cell(str(n))


def _cell(text: str) -> Html:
    return el("td", el("bdi", text), class_="n")
