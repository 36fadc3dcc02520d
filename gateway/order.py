"""A call as every rule sees it before anything is counted: who calls, on which terms, which models may answer, and how
much of what that may take."""

from __future__ import annotations

from msgspec import Struct

from config.catalog import Model
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.language import sentence
from gateway.surface import Surface
from gateway.terms import Terms
from ledger.usage import Usage
from policies.buckets import Rules
from policies.lanes import Lane
from policies.principal import Principal
from policies.task import TaskRule
from policies.tier import Tier

_MENDED_S = 300  # what an operator has to mend is not mended in seconds


class Candidate(Struct, frozen=True):
    """A model that may answer, with what it would cost."""

    model: Model
    bill: Bill
    estimated: int = 0  # input tokens, before what we learnt of the model's own count was applied


class Order(Struct, frozen=True):
    """``candidates`` at their models' own prices, the model that is to answer first. ``reserve`` is the output to set
    aside, ``least`` the output without which no answer is worth beginning; tokens of all choices together."""

    principal: Principal
    terms: Terms
    candidates: tuple[Candidate, ...]
    reserve: int
    least: int

    @property
    def tier(self) -> Tier:
        return self.terms.tier

    @property
    def surface(self) -> Surface:
        return self.terms.surface

    @property
    def rule(self) -> TaskRule | None:
        return self.terms.rule

    @property
    def url(self) -> str:
        """Where the caller goes for more."""
        return self.terms.url

    @property
    def model(self) -> Model:
        return self.candidates[0].model

    @property
    def foreseen(self) -> Usage:
        """What the request itself will consume, without its answer."""
        return self.candidates[0].bill.foreseen

    @property
    def lane(self) -> Lane:
        """The calls of its user with which it is counted where only their number counts."""
        return self.terms.lane

    @property
    def concurrency(self) -> int:
        """How many calls of its lane may be open at once; 0: no limit."""
        return self.terms.concurrency

    def rules(self, cost: int) -> Rules:
        """The windows this call counts in, those of the tier and those of the key, each with its part of the call.
        ``cost`` is what the call takes of windows that count money, in nano-USD."""
        windows = self.terms.windows
        if not windows:
            return ()
        tokens, reserve = self.candidates[0].bill.foreseen.input_tokens, self.reserve
        parts = {
            "requests": 1,
            "input_tokens": tokens,
            "output_tokens": reserve,
            "tokens": tokens + reserve,
            "cost": cost,
        }
        return tuple([(window, parts[window.of]) for window in windows])


def fits(model: Model, tokens: int, asked_output: int | None) -> bool:
    """Whether so large a request is within what the model takes, as far as that is known."""
    output = asked_output or 0
    too_long = model.max_output is not None and output > model.max_output
    return not too_long and (model.context is None or tokens + output <= model.context)


def candidates_of(terms: Terms, foreseen: Usage, estimated: int = 0) -> tuple[Candidate, ...]:
    """The model and its fallbacks, each at its own price, with the discount of the rule. Raises Refusal where the model
    itself has no price."""
    if not terms.models:
        said = sentence("model_unpriced", model=terms.model.id)
        raise Refusal.of("price_missing", said, retry_after_s=_MENDED_S)
    factor = terms.factor_ppm
    return tuple([Candidate(model, Bill(price, factor, foreseen), estimated) for model, price in terms.models])
