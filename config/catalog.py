"""The catalogue: which backends exist, which models they serve, at what price, to whom, and by which rules the calls
nobody typed are paid. Pure values.

A ``Catalog`` is a snapshot that never changes: a call reads one snapshot from its first byte to its last, so that a
change of price or tier never touches a call already running. The values come from ``catalog_file.py`` and
``catalog_sql.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from msgspec import Struct

from config.complaints import Complaint
from ledger.price import Price
from ledger.price import Rates as Rates
from policies.group import Group
from policies.task import TaskRule, rule_for
from policies.tier import Tier

Kind = Literal["chat", "completion", "embedding", "rerank", "speech", "transcription", "image", "moderation"]


class Timeouts(Struct, frozen=True):
    """An upstream's own patience, in seconds; None means the setting of that name."""

    connect_s: float | None = None
    first_byte_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None


class Upstream(Struct, frozen=True):
    """One backend. Its key is named, not held: ``api_key_env`` is the environment variable that has it."""

    name: str
    base_url: str
    api_key_env: str = ""
    timeouts: Timeouts = Timeouts()
    headers: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()
    allow_private: bool = False
    """The address may lie in a private network."""


class Model(Struct, frozen=True):
    """One model as callers know it. ``context`` and ``max_output`` are tokens; None means unknown."""

    id: str
    upstream: str
    upstream_model: str
    title: str = ""
    description: str = ""
    kind: Kind = "chat"
    tokenizer: str | None = None
    tokenizer_factor_ppm: int = 1_000_000
    """How many tokens the model really makes of one token of ``tokenizer``, in millionths."""
    context: int | None = None
    max_output: int | None = None
    fallback: str | None = None
    """Model that answers when this one's backend fails before its first byte."""
    on_disconnect: Literal["abort", "drain"] = "abort"
    listed: bool = True
    """It stands in the public price list."""


class Declared(Struct, frozen=True):
    """A catalogue as somebody declares it, before the database has given its prices versions."""

    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    tiers: tuple[Tier, ...] = ()
    rates: dict[str, Rates] = {}
    """By model id. A model without an entry has no price, and calls to it are refused."""
    tasks: tuple[TaskRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """What is in force: one immutable snapshot."""

    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    revision: str = ""
    """Equal on two replicas exactly if they see the same catalogue."""
    groups: Mapping[UUID, Group] = field(default_factory=dict)
    tasks: Mapping[str, TaskRule] = field(default_factory=dict)
    retired_tiers: frozenset[str] = frozenset()
    shown: frozenset[str] | None = None
    """The chat models that people find where they chat, as a sync saw it; None: nobody has looked."""
    """Those of ``tiers`` that are offered to nobody new."""

    def upstream(self, name: str) -> Upstream | None:
        return self.upstreams.get(name)

    def model(self, model_id: str) -> Model | None:
        return self.models.get(model_id)

    def tier(self, name: str) -> Tier | None:
        return self.tiers.get(name)

    def price(self, model_id: str) -> Price | None:
        """The price in force; None means that calls must be refused, never that they are free."""
        return self.prices.get(model_id)

    def task_rule(self, task: str) -> TaskRule | None:
        """The rule that calls with this label follow; None: they are paid like any other."""
        return rule_for(self.tasks.values(), task)

    def models_for(self, tier: Tier) -> tuple[Model, ...]:
        """The models the tier grants, by id."""
        return tuple(self.models[name] for name in sorted(self.models) if tier.allows_model(name))

    def fallbacks(self, model_id: str) -> tuple[Model, ...]:
        """The models that may answer in this one's stead, nearest first, each once even if somebody declared a ring."""
        chain: dict[str, Model] = {}
        model = self.models.get(model_id)
        while model and model.fallback and model.fallback not in (model_id, *chain):
            model = self.models.get(model.fallback)
            if model:
                chain[model.id] = model
        return tuple(chain.values())


def complaints(declared: Declared) -> list[Complaint]:
    """Everything in which the parts do not fit each other; paths as in the file (``models[2].fallback``)."""
    return [
        *_repeated(declared),
        *_model_complaints(declared),
        *_tier_complaints(declared),
        *_task_complaints(declared),
    ]


def _repeated(declared: Declared) -> Iterator[Complaint]:
    yield from _twice("upstreams", "name", [upstream.name for upstream in declared.upstreams])
    yield from _twice("models", "id", [model.id for model in declared.models])
    yield from _twice("tiers", "name", [tier.name for tier in declared.tiers])
    yield from _twice("tasks", "name", [task.name for task in declared.tasks])


def _twice(table: str, key: str, names: Iterable[str]) -> Iterator[Complaint]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Complaint(f"{table}[{index}].{key}", f"{name} is declared twice")
        seen.add(name)


def _model_complaints(declared: Declared) -> Iterator[Complaint]:
    upstreams = {upstream.name for upstream in declared.upstreams}
    fallback = {model.id: model.fallback for model in declared.models}
    for index, model in enumerate(declared.models):
        if model.upstream not in upstreams:
            yield Complaint(f"models[{index}].upstream", f"there is no upstream {model.upstream}")
        if model.fallback and model.fallback not in fallback:
            yield Complaint(f"models[{index}].fallback", f"there is no model {model.fallback}")
        elif _returns(model.id, fallback):
            yield Complaint(f"models[{index}].fallback", f"the fallbacks of {model.id} lead back to it")


def _returns(start: str, fallback: Mapping[str, str | None]) -> bool:
    seen: set[str] = set()
    model = fallback.get(start)
    while model and model not in seen:
        if model == start:
            return True
        seen.add(model)
        model = fallback.get(model)
    return False


def _tier_complaints(declared: Declared) -> Iterator[Complaint]:
    names = {tier.name for tier in declared.tiers}
    for index, tier in enumerate(declared.tiers):
        if tier.upgrade_to and tier.upgrade_to not in names:
            yield Complaint(f"tiers[{index}].upgrade_to", f"there is no tier {tier.upgrade_to}")
        elif tier.upgrade_to == tier.name:
            yield Complaint(f"tiers[{index}].upgrade_to", f"{tier.name} cannot be its own upgrade")


def _task_complaints(declared: Declared) -> Iterator[Complaint]:
    kinds = {model.id: model.kind for model in declared.models}
    for index, task in enumerate(declared.tasks):
        if task.model is None:
            continue
        if task.model not in kinds:
            yield Complaint(f"tasks[{index}].model", f"there is no model {task.model}")
        elif kinds[task.model] != "chat":
            yield Complaint(f"tasks[{index}].model", f"{task.model} is for {kinds[task.model]}, and tasks are chats")
