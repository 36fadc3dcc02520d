"""May they? Asks every rule, cheap questions before dear ones, and sets the money aside.

Entitlement is free; the windows are one trip to Redis, all or nothing; then the hold in the bank. What one step has
done and a later one denies is taken back, so a refused call leaves no trace. The answer is an ``Admission``, or a
Refusal raised once, here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from msgspec.structs import replace

from config.catalog import Catalog, Model
from gateway import sentences
from gateway.bill import Bill
from gateway.counting import Counting
from gateway.errors import Refusal
from gateway.surface import Request, Surface
from ledger.hold import CallFacts
from ledger.period import Plan
from ledger.store import Bank, BankUnavailable, HoldAsk, HoldReply, HoldStatus
from ledger.teller import Teller
from policies import entitlement
from policies.buckets import Ask, Buckets, BucketsBusy, BucketsUnavailable, Ticket
from policies.decision import Deny
from policies.estimate import RunningP90, RunningRatio, output_reserve
from policies.principal import Principal
from policies.tier import Tier, Window

# A backend that is not told a bound may answer this long; only a wallet that cannot cover it makes us tell.
_OUTPUT_UNTOLD = 4096
_OUTPUT_LEAST = 16
_RETRY_S = 2
_MENDED_S = 300  # what an operator has to mend is not mended in seconds
_SHOWN = 100  # characters of the caller's own words in a sentence


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer, with what it would cost."""

    model: Model
    bill: Bill
    estimated: int = 0  # input tokens, before what we learnt of the model's own count was applied


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may start. ``output_cap`` is what the backend is told, None: nothing. ``held`` and ``available`` are
    nano-USD: set aside for this call, and free in the wallet beside it."""

    wallet_id: UUID
    tier: Tier
    candidates: tuple[Candidate, ...]
    ticket: Ticket
    held: int
    available: int
    output_cap: int | None
    facts: CallFacts
    upgrade_url: str


def plan_of(tier: Tier) -> Plan | None:
    """The tier's allowance as the bank sees it."""
    allowance = tier.allowance
    if allowance is None:
        return None
    return Plan(allowance.amount, allowance.every, allowance.zone, allowance.anchor, tier.name)


class Admitter:
    """One for each process. ``upgrade_url`` is where people go whose tier names no address of its own."""

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

    def tier_of(self, principal: Principal, catalog: Catalog) -> Tier:
        """The principal's tier; the default one where it was retired. Raises Refusal when there is none at all."""
        tier = catalog.tier(principal.tier) or catalog.tier(self._default_tier)
        if tier is None:
            message = "No plan is set up here yet. Please ask your administrator."
            raise Refusal.of("price_missing", message, retry_after_s=_MENDED_S)
        return tier

    def upgrade_url(self, tier: Tier) -> str:
        return tier.upgrade_url or self._upgrade_url

    async def admit(
        self, surface: Surface, request: Request, principal: Principal, request_id: UUID, idempotency: str
    ) -> Admission:
        """Raises Refusal; then nothing is counted and nothing is held."""
        catalog = self._catalog()
        tier = self.tier_of(principal, catalog)
        model = self._model(catalog, surface, request)
        url = self.upgrade_url(tier)
        self._entitled(tier, model, request, 0, url)
        candidates = await self._candidates(catalog, surface, tier, model, request)
        bill = candidates[0].bill
        self._entitled(tier, model, request, bill.input_tokens, url)
        reserve = self._reserve(surface, tier, model, request)
        facts = _facts(principal, tier, model, surface, request)
        wanted = 0 if tier.unlimited or surface.free else max(each.bill.expected(reserve) for each in candidates)
        ticket = await self._count(tier, model, surface, principal, request_id, idempotency, bill, reserve, wanted)
        hold = await self._hold(tier, candidates, ticket, request_id, principal, request, wanted, facts)
        cap = _output_cap(surface, tier, model, request, bill, hold)
        return Admission(principal.wallet_id, tier, candidates, ticket, hold.amount, hold.available, cap, facts, url)

    def _model(self, catalog: Catalog, surface: Surface, request: Request) -> Model:
        model = catalog.model(request.model)
        if model is None:
            raise Refusal.of(
                "model_not_found", f"There is no model called {request.model[:_SHOWN]!r} here.", param="model"
            )
        if model.kind != surface.kind:
            message = f"The model {model.id} is for {model.kind}, not for {surface.route}."
            raise Refusal.of("invalid_request", message, param="model")
        return model

    def _entitled(self, tier: Tier, model: Model, request: Request, tokens: int, url: str) -> None:
        deny = entitlement.check(tier, model.id, request.features, tokens, request.asked_output)
        if deny is not None:
            raise sentences.denied(deny, tier, url)

    async def _candidates(
        self, catalog: Catalog, surface: Surface, tier: Tier, model: Model, request: Request
    ) -> tuple[Candidate, ...]:
        """The model and its fallbacks, each at its own price. A fallback nobody priced, or the tier does not grant, is
        no candidate."""
        price = catalog.price(model.id)
        if price is None:
            message = f"The model {model.id} has no price yet, so it cannot be used."
            raise Refusal.of("price_missing", message, retry_after_s=_MENDED_S)
        foreseen = await surface.foresee(request, model, self._counting)
        estimated = foreseen.input_tokens
        if tier.max_context is not None:
            # A bound on the context refuses people, so there the count is exact; a hold only needs to be large enough.
            foreseen = replace(foreseen, input=await surface.count(request, model, self._counting))
        else:
            foreseen = replace(foreseen, input=self._input_seen.correct(model.id, foreseen.input))
        candidates = [Candidate(model, Bill(price, tier.markup_ppm, foreseen), estimated)]
        for other in catalog.fallbacks(model.id):
            price = catalog.price(other.id)
            if price is not None and other.kind == model.kind and tier.allows_model(other.id):
                candidates.append(Candidate(other, Bill(price, tier.markup_ppm, foreseen), estimated))
        return tuple(candidates)

    def _reserve(self, surface: Surface, tier: Tier, model: Model, request: Request) -> int:
        """Output tokens to set aside: what was asked, what the model usually gives, what the tier and model allow."""
        if not surface.has_output:
            return 0
        usual = self._output_seen.expected(model.id)
        return output_reserve(request.n, usual, request.asked_output, tier.max_output, model.max_output)

    async def _count(
        self,
        tier: Tier,
        model: Model,
        surface: Surface,
        principal: Principal,
        request_id: UUID,
        idempotency: str,
        bill: Bill,
        reserve: int,
        cost: int,
    ) -> Ticket:
        rules = tuple((w, _cost_in(w, bill, reserve, cost)) for w in tier.windows_for(surface.route, model.id))
        ask = Ask(
            str(principal.wallet_id), str(principal.user_id), str(request_id), tier.concurrency, idempotency, rules
        )
        try:
            answer = await self._buckets.admit(ask)
        except (BucketsUnavailable, BucketsBusy):
            answer = Deny("limiter_unavailable", retry_after_ms=_RETRY_S * 1000)
        if isinstance(answer, Deny):
            raise sentences.denied(answer, tier, self.upgrade_url(tier))
        return answer

    async def _hold(
        self,
        tier: Tier,
        candidates: tuple[Candidate, ...],
        ticket: Ticket,
        request_id: UUID,
        principal: Principal,
        request: Request,
        wanted: int,
        facts: CallFacts,
    ) -> HoldReply:
        bill = candidates[0].bill
        least = min(request.asked_output or _OUTPUT_LEAST, _OUTPUT_LEAST) * request.n
        minimum = 0 if tier.unlimited else min(wanted, max(each.bill.expected(least) for each in candidates))
        ask = HoldAsk(
            request_id,
            principal.wallet_id,
            wanted,
            minimum,
            bill.price.version,
            bill.factor_ppm,
            facts,
            plan_of(tier),
        )
        try:
            reply = await self._teller.open(ask)
        except BankUnavailable:
            await self._take_back(ticket)
            raise ledger_away() from None
        except BaseException:
            await self._take_back(ticket)
            raise
        if reply.status is not HoldStatus.OK:
            await self._take_back(ticket)
            raise await self._poor(reply, minimum, tier, principal)
        return reply

    async def _take_back(self, ticket: Ticket) -> None:
        """Undo the windows; if Redis has just gone away, the slot frees itself and the windows pass."""
        try:
            await self._buckets.undo(ticket)
        except (BucketsUnavailable, BucketsBusy):
            return

    async def _poor(self, reply: HoldReply, needed: int, tier: Tier, principal: Principal) -> Refusal:
        if reply.status is HoldStatus.DUPLICATE:
            return Refusal.of("idempotency_conflict", "This request was already made.")
        ends = None
        if tier.allowance is not None:
            try:
                ends = (await self._bank.balance(principal.wallet_id, plan_of(tier))).period_ends_at
            except (BankUnavailable, LookupError):
                ends = None
        return sentences.without_money(reply, needed, tier, self.upgrade_url(tier), ends)


def ledger_away() -> Refusal:
    """The bank cannot answer, so we do not guess."""
    message = f"Balances cannot be checked right now. Try again in {_RETRY_S} s."
    return Refusal.of("ledger_unavailable", message, retry_after_s=_RETRY_S)


def _facts(principal: Principal, tier: Tier, model: Model, surface: Surface, request: Request) -> CallFacts:
    return CallFacts(
        user_id=principal.user_id,
        tier=tier.name,
        model=model.id,
        route=surface.route,
        upstream=model.upstream,
        key_id=principal.key_id,
        task=principal.task,
        chat_id=principal.chat_id,
        message_id=principal.message_id,
        streamed=request.stream,
        house=tier.unlimited,
    )


def _cost_in(window: Window, bill: Bill, reserve: int, cost: int) -> int:
    """What this call costs in the unit of the window, as far as can be said before it ran."""
    match window.of:
        case "requests":
            return 1
        case "input_tokens":
            return bill.input_tokens
        case "output_tokens":
            return reserve
        case "tokens":
            return bill.input_tokens + reserve
        case "cost":
            return cost


def _output_cap(
    surface: Surface, tier: Tier, model: Model, request: Request, bill: Bill, hold: HoldReply
) -> int | None:
    """The bound to tell the backend, per choice: when the caller named none and the tier has one, or when the wallet
    covers less than what may come. None where the caller's own words stand."""
    if not surface.has_output:
        return None
    allowed = min((bound for bound in (tier.max_output, model.max_output) if bound is not None), default=None)
    told = request.asked_output
    if told is None and tier.max_output is not None:
        told = allowed
    if tier.unlimited:
        return told if told != request.asked_output else None
    payable = max(1, bill.covered(hold.amount + hold.available) // request.n)
    if payable < (told or allowed or _OUTPUT_UNTOLD):
        return payable
    return told if told != request.asked_output else None
