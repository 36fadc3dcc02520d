"""``GET /v1/models`` and ``GET /v1/models/{id}``: the models a caller may use, and what a chat page shows of them.

A key that forwards users gets the whole catalogue: Open WebUI keeps one list for all its users, refuses the chat of
anybody whose model is missing from it, and answers no chat at all without it. So that list is made once for each
catalogue, and a service that was known is answered also while nobody can be asked who it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from config.catalog import Catalog, Model
from gateway import sentences
from gateway.admission import Admitter
from gateway.errors import Refusal
from gateway.identity import Headers, Identity, ServiceKey
from gateway.language import Language, language_of
from gateway.offer import ladder, lowest, price_words, prices_of
from gateway.terms import no_model
from policies.tier import Tier

_SERVICES_MAX = 100
_RETRY_S = 2
_PATIENCE_S = 2.0  # Open WebUI waits ten seconds for its list
_CREDENTIALS = (b"authorization", b"x-api-key")


class Models:
    """One for each process. ``language`` is that of what stands below a model, ``prices_url`` where its link leads: one
    list serves people of all languages and tiers."""

    def __init__(
        self,
        identity: Identity,
        admitter: Admitter,
        catalog: Callable[[], Catalog],
        language: Language | None = None,
        prices_url: str = "",
    ) -> None:
        self._identity = identity
        self._admitter = admitter
        self._catalog = catalog
        self._language = language or language_of()
        self._prices_url = prices_url
        self._services: OrderedDict[bytes, None] = OrderedDict()
        self._whole: tuple[str, bytes] | None = None

    async def __call__(self, request: Request) -> Response:
        catalog = self._catalog()
        granted = await self._granted(catalog, request.scope["headers"])
        return _reply(self._whole_list(catalog) if granted is None else self._list(catalog, granted))

    async def one(self, request: Request) -> Response:
        catalog = self._catalog()
        granted = await self._granted(catalog, request.scope["headers"])
        wanted = request.path_params["model_id"]
        for model in _chats(catalog) if granted is None else granted:
            if model.id == wanted:
                return _reply(msgspec.json.encode(self._entry(catalog, ladder(catalog), model)))
        raise no_model(wanted)

    async def _granted(self, catalog: Catalog, headers: Headers) -> tuple[Model, ...] | None:
        """The models of the caller's tier and key; None: every chat model, for a service."""
        given = list(headers)
        service = _digest(given)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                principal = await self._identity.identify_lister(given)
        except (Refusal, TimeoutError) as failure:
            refusal = failure if isinstance(failure, Refusal) else _cannot_tell()
            if refusal.code == "ledger_unavailable" and service in self._services:
                return None
            raise refusal from None
        if isinstance(principal, ServiceKey):
            self._remember(service)
            return None
        models = catalog.models_for(self._admitter.tier_of(principal, catalog))
        limits = principal.limits
        return models if limits is None else tuple(model for model in models if limits.allows_model(model.id))

    def _remember(self, service: bytes) -> None:
        self._services[service] = None
        self._services.move_to_end(service)
        if len(self._services) > _SERVICES_MAX:
            self._services.popitem(last=False)

    def _whole_list(self, catalog: Catalog) -> bytes:
        if self._whole is None or self._whole[0] != catalog.revision:
            self._whole = catalog.revision, self._list(catalog, _chats(catalog))
        return self._whole[1]

    def _list(self, catalog: Catalog, models: tuple[Model, ...]) -> bytes:
        tiers = ladder(catalog)
        entries = [self._entry(catalog, tiers, model) for model in models]
        return msgspec.json.encode({"object": "list", "data": entries})

    def _entry(self, catalog: Catalog, tiers: tuple[Tier, ...], model: Model) -> dict[str, Any]:
        price, first = catalog.price(model.id), lowest(tiers, model.id)
        return {
            "id": model.id,
            "object": "model",
            "created": 0,
            "owned_by": model.upstream,
            "name": model.title or model.id,
            "description": model.description,
            "context_window": model.context,
            "max_output_tokens": model.max_output,
            "pricing": prices_of(price.pico) if price else None,
            "tags": [{"name": first.title or first.name}] if first else [],
            "info": {"meta": {"description": self._shown(catalog, model), "capabilities": {"usage": True}}},
        }

    def _shown(self, catalog: Catalog, model: Model) -> str:
        """Markdown, which Open WebUI shows below the model's name: the only place for a link that can be clicked. It
        shows two lines of it and the rest on hover, takes an empty line for one, and breaks a link in angle brackets:
        so the link stands first, and plain."""
        price = catalog.price(model.id)
        said = " · ".join(price_words(price, self._language)) if price else ""
        link = f"[{self._language.words('see_prices')}]({_plain(self._prices_url)})" if self._prices_url else ""
        first = " · ".join(part for part in (link, model.description) if part)
        return "\n".join(part for part in (first, said) if part)


def _chats(catalog: Catalog) -> tuple[Model, ...]:
    # Open WebUI shows every entry as a chat model, so it is told of no others.
    return tuple(catalog.models[name] for name in sorted(catalog.models) if catalog.models[name].kind == "chat")


def _plain(url: str) -> str:
    """The address as a link in Markdown may hold it without brackets."""
    return quote(url, safe=":/?#[]@!$&'*+,;=%~")


def _cannot_tell() -> Refusal:
    return sentences.waiting("ledger_unavailable", "keys_unknown", _RETRY_S)


def _digest(headers: list[tuple[bytes, bytes]]) -> bytes:
    """What was presented, in a form that is no key."""
    return sha256(b"\0".join(value for name, value in headers if name in _CREDENTIALS)).digest()


def _reply(body: bytes) -> Response:
    return Response(body, media_type="application/json")
