"""May they? Asks every rule, cheap questions before dear ones, and sets the money aside.

Entitlement is free; the windows are one trip to Redis, all or nothing, for which embeddings may wait a moment; then
comes the hold in the bank: on the house where a rule says so, in tokens where the tier gives those, else and when they
are used up in money. What one step has done and a later one denies is taken back, so a refused call leaves no trace.
The answer is an ``Admission``, or a Refusal raised once, here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from config.catalog import Catalog
from gateway import sentences
from gateway.counting import Counting
from gateway.errors import Refusal
from gateway.order import Candidate, Order, candidates_of, fits
from gateway.purse import Purse, leaves_it_to_others, purses_of, unpaid
from gateway.surface import Request, Surface
from gateway.terms import KnownTerms, Terms, check_asked
from ledger.hold import CallFacts
from ledger.journal import TOKENS
from ledger.store import Bank, BankUnavailable, HoldAsk, HoldReply, HoldStatus
from ledger.teller import Teller
from ledger.usage import Usage
from policies.buckets import Ask, Buckets, BucketsBusy, BucketsUnavailable, Rules, Ticket
from policies.decision import Deny
from policies.estimate import RunningP90, RunningRatio, output_reserve
from policies.principal import Principal
from policies.tier import Tier

# A backend that is not told a bound may answer this long; only a wallet that cannot cover it makes us tell.
_OUTPUT_UNTOLD = 4096
OUTPUT_LEAST = 16
"""Tokens of output: an answer that could not be so long, and was not asked to be shorter, is not begun."""
_RETRY_S = 2


class Admission(Struct, frozen=True):
    """A call that may start. ``output_cap`` is what the backend is told, None: nothing. ``held`` and ``available`` are
    in the purse's currency: set aside for this call, and free in the wallet beside it."""

    tier: Tier
    purse: Purse
    ticket: Ticket
    held: int
    available: int
    output_cap: int | None
    facts: CallFacts
    upgrade_url: str

    @property
    def wallet_id(self) -> UUID:
        return self.purse.wallet_id

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The models that may answer, in the order in which they are tried."""
        return self.purse.candidates

    @property
    def in_tokens(self) -> bool:
        return self.purse.currency == TOKENS


class Admitter:
    """One for each process. ``upgrade_url`` is where people go whose tier names no address of its own; ``queue_s`` is
    how long embeddings may wait for their turn."""

    def __init__(
        self,
        *,
        catalog: Callable[[], Catalog],
        buckets: Buckets,
        teller: Teller,
        bank: Bank,
        counting: Counting,
        output_seen: RunningP90,
        input_seen: RunningRatio,
        default_tier: str,
        upgrade_url: str,
        queue_s: float = 0.0,
    ) -> None:
        self._catalog = catalog
        self._buckets = buckets
        self._teller = teller
        self._bank = bank
        self._counting = counting
        self._output_seen = output_seen
        self._input_seen = input_seen
        self._default_tier = default_tier
        self._upgrade_url = upgrade_url
        self._queue_s = queue_s
        self._terms = KnownTerms()

    def tier_of(self, principal: Principal, catalog: Catalog) -> Tier:
        """The principal's tier; the default one where it was retired. Raises Refusal when there is none at all."""
        tier = catalog.tiers.get(principal.tier) or catalog.tiers.get(self._default_tier)
        if tier is None:
            raise sentences.no_tier()
        return tier

    def upgrade_url(self, tier: Tier) -> str:
        return tier.upgrade_url or self._upgrade_url

    async def admit(
        self, surface: Surface, request: Request, principal: Principal, request_id: UUID, idempotency: str
    ) -> Admission:
        """Raises Refusal; then nothing is counted and nothing is held."""
        order = await self._order(surface, request, principal)
        facts = _facts(order, request)
        replies: list[tuple[Purse, HoldReply]] = []
        ticket: Ticket | None = None
        now, begun = datetime.now(UTC), time.monotonic()
        for purse in purses_of(order, now):
            ticket = await self._counted(order, order.rules(purse.cost), ticket, request_id, idempotency, begun)
            ask = purse.ask(request_id, facts)
            try:
                reply = await self._teller.open(ask)
                if reply.status is HoldStatus.UNKNOWN and purse.in_tokens:
                    reply = await self._in_a_fresh_wallet(ask)
            except BaseException as failure:
                await self._take_back(ticket)
                if isinstance(failure, BankUnavailable):
                    raise ledger_away() from None
                raise
            if reply.status is HoldStatus.OK:
                cap = _output_cap(order, request, purse, reply)
                tier, url = order.terms.tier, order.terms.url
                return Admission(tier, purse, ticket, reply.amount, reply.available, cap, ask.facts, url)
            replies.append((purse, reply))
            if not leaves_it_to_others(purse, reply):
                break
        assert ticket is not None  # there is always a purse with money
        await self._take_back(ticket)
        raise unpaid(order, replies, now)

    def leave(self, request_id: UUID) -> None:
        """The caller of this call has left, or the house closes: if it waits for its turn, its admission is cancelled;
        a question that is on its way to Redis or the bank is brought to its end."""
        self._buckets.leave(str(request_id))

    async def _order(self, surface: Surface, request: Request, principal: Principal) -> Order:
        """Everything that can be said before anything is counted. Raises Refusal."""
        catalog = self._catalog()
        tier = self.tier_of(principal, catalog)
        terms = self._terms.get(catalog, tier, surface, request.model, principal, self.upgrade_url)
        asked_output = request.asked_output
        if request.features or asked_output is not None:
            check_asked(tier, terms.model, terms.url, request.features, asked_output=asked_output)
        asked, terms = terms, terms.instead or terms
        foreseen, estimated = await self._foreseen(request, terms)
        if terms is not asked and not fits(terms.model, foreseen.input_tokens, asked_output):
            terms = asked
            foreseen, estimated = await self._foreseen(request, terms)
        candidates = candidates_of(terms, foreseen, estimated)
        if tier.max_context is not None:
            check_asked(tier, terms.model, terms.url, tokens=foreseen.input_tokens)
        least = min(asked_output or OUTPUT_LEAST, OUTPUT_LEAST) * request.n
        reserve = 0  # what was asked, what the model usually gives, what the tier and model allow
        if surface.has_output:
            usual = self._output_seen.expected(terms.model.id)
            reserve = output_reserve(request.n, usual, asked_output, terms.output_max)
        return Order(principal, terms, candidates, reserve, least)

    async def _foreseen(self, request: Request, terms: Terms) -> tuple[Usage, int]:
        """What the request will consume on these terms, and its input tokens before what we learnt was applied."""
        surface, model = terms.surface, terms.model
        foreseen = await surface.foresee(request, model, self._counting)
        estimated = foreseen.input_tokens
        if terms.tier.max_context is not None:
            # A bound on the context refuses people, so there the count is exact; a hold only needs to be large enough.
            return replace(foreseen, input=await surface.count(request, model, self._counting)), estimated
        expected = self._input_seen.correct(model.id, foreseen.input)
        return foreseen if expected == foreseen.input else replace(foreseen, input=expected), estimated

    async def _counted(
        self, order: Order, rules: Rules, earlier: Ticket | None, request_id: UUID, idempotency: str, begun: float
    ) -> Ticket:
        """The call in its windows; another count of the same call, with other costs, is taken back first. Embeddings
        wait for it, in all no longer than the setting from ``begun`` on."""
        if earlier is not None:
            if earlier.ask.rules == rules:
                return earlier
            await self._take_back(earlier)
        who, lane, wait_ms = order.principal, order.terms.lane, 0
        if lane == "embeddings" and self._queue_s:
            wait_ms = max(0, int((begun + self._queue_s - time.monotonic()) * 1000))
        at_once = order.terms.concurrency
        ask = Ask(who.wallet_text, who.user_text, str(request_id), at_once, idempotency, rules, lane, wait_ms)
        try:
            answer = await self._buckets.admit(ask)
        except (BucketsUnavailable, BucketsBusy):
            answer = limiter_away()
        if isinstance(answer, Deny):
            raise sentences.denied(answer, order.tier, order.url)
        return answer

    async def _in_a_fresh_wallet(self, ask: HoldAsk) -> HoldReply:
        """The reply where the caller's wallet of tokens had yet to be opened."""
        await self._bank.open_wallet(ask.wallet_id, TOKENS)
        return await self._teller.open(ask)

    async def _take_back(self, ticket: Ticket) -> None:
        """Undo the windows; if Redis has just gone away, the slot frees itself and the windows pass."""
        try:
            await self._buckets.undo(ticket)
        except (BucketsUnavailable, BucketsBusy):
            return


def ledger_away() -> Refusal:
    """The bank cannot answer, so we do not guess."""
    return sentences.waiting("ledger_unavailable", "ledger_away", _RETRY_S)


def limiter_away() -> Deny:
    """Nobody can say what is left of the windows."""
    return Deny("limiter_unavailable", retry_after_ms=_RETRY_S * 1000)


def _facts(order: Order, request: Request) -> CallFacts:
    principal, terms = order.principal, order.terms
    model = terms.model
    return CallFacts(
        principal.user_id,
        terms.tier.name,
        model.id,
        terms.surface.route,
        model.upstream,
        principal.key_id,
        principal.task,
        principal.chat_id,
        principal.message_id,
        request.stream,
    )


def _output_cap(order: Order, request: Request, purse: Purse, hold: HoldReply) -> int | None:
    """The bound to tell the backend, per choice: when the caller named none and the tier has one, or when the wallet
    covers less than what may come. None where the caller's own words stand."""
    terms = order.terms
    if not terms.surface.has_output:
        return None
    told, allowed = request.asked_output, terms.output_max
    if told is None and terms.tier.max_output is not None:
        told = allowed
    if not terms.tier.unlimited:
        payable = max(1, purse.candidates[0].bill.covered(hold.amount + hold.headroom) // request.n)
        if payable < (told or allowed or _OUTPUT_UNTOLD):
            return payable
    return told if told != request.asked_output else None
