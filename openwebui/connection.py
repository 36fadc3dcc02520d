"""Which of Open WebUI's connections leads to Farebox, and how it should be. Pure.

The document of all connections is taken as it came and sent back with one place changed: what the operator has beside
it, and what this release does not know of, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

URLS, KEYS, CONFIGS, ENABLED = "OPENAI_API_BASE_URLS", "OPENAI_API_KEYS", "OPENAI_API_CONFIGS", "ENABLE_OPENAI_API"

HEADERS = {
    "X-OpenWebUI-Task": "{{TASK}}",
    "X-OpenWebUI-Chat-Id": "{{CHAT_ID}}",
    "X-OpenWebUI-Message-Id": "{{MESSAGE_ID}}",
}
"""By which a call says what it is for, in which chat, and of which answer: Open WebUI fills in the braces."""

_BEARER = "bearer"


class Connection(Struct, frozen=True):
    """One connection there. ``config`` is what else is set of it."""

    index: int
    url: str
    key: str
    config: dict[str, Any] = {}

    @property
    def enabled(self) -> bool:
        return bool(self.config.get("enable", True))

    @property
    def prefix(self) -> str:
        """What stands before each of its models' ids in the list."""
        prefix = self.config.get("prefix_id")
        return f"{prefix}." if prefix else ""

    def own_id(self, model_id: str) -> str:
        """The id a model of this connection has at its backend."""
        return model_id.removeprefix(self.prefix)


class Change(NamedTuple):
    """Another document of connections, and what differs in it: a sentence each, without a key."""

    document: dict[str, Any]
    sentences: tuple[str, ...]


def connections_of(document: Mapping[str, Any]) -> list[Connection]:
    """All connections in the document, in its order."""
    keys, configs = _listed(document, KEYS), document.get(CONFIGS) or {}
    return [
        Connection(index, str(url), str(keys[index]) if index < len(keys) else "", _config(configs, index))
        for index, url in enumerate(_listed(document, URLS))
    ]


def ours(
    document: Mapping[str, Any], url: str = "", is_our_key: Callable[[str], bool] = lambda _: False
) -> Connection | None:
    """The connection to Farebox: the one with this address, else one with a key of ours; None where there is none."""
    known = connections_of(document)
    at_address = (each for each in known if url and _plain(each.url) == _plain(url))
    return next(at_address, None) or next((each for each in known if is_our_key(each.key)), None)


def with_ours(document: Mapping[str, Any], found: Connection | None, url: str, key: str) -> Change:
    """The document in which the connection ``found`` is as it should be; None: with one more."""
    before = found or Connection(len(_listed(document, URLS)), "", "")
    config = {**_usual(), **before.config, "enable": True, "auth_type": _BEARER, "headers": _headers(before.config)}
    after = Connection(before.index, url, key, config)
    changed = {
        **document,
        ENABLED: True,
        URLS: _placed(_listed(document, URLS), after.index, url),
        KEYS: _placed(_listed(document, KEYS), after.index, key),
        CONFIGS: {**(document.get(CONFIGS) or {}), str(after.index): config},
    }
    said = _differences(before, after) if found else iter((f"a connection to {url} is added",))
    return Change(changed, (*_switched(document), *said))


def with_usage(defaults: Mapping[str, Any]) -> Change:
    """What holds for all models, with their capability to report usage switched on."""
    metadata = defaults.get("DEFAULT_MODEL_METADATA") or {}
    capabilities = metadata.get("capabilities") or {}
    wanted = {**metadata, "capabilities": {**capabilities, "usage": True}}
    sentences = () if capabilities.get("usage") is True else ("usage is asked for with every answer",)
    return Change({**defaults, "DEFAULT_MODEL_METADATA": wanted}, sentences)


def _switched(document: Mapping[str, Any]) -> Iterator[str]:
    if not document.get(ENABLED):
        yield "OpenAI connections are switched on"


def _differences(before: Connection, after: Connection) -> Iterator[str]:
    if before.url != after.url:
        yield f"the connection to {before.url} leads to {after.url}"
    if before.key != after.key:
        yield "the connection gets another service key"
    if not before.enabled:
        yield "the connection is switched on"
    if before.config.get("auth_type") not in (None, _BEARER):
        yield "the connection sends its service key, not people's own credentials"
    if before.config.get("headers") != after.config["headers"]:
        yield "the connection names the task, the chat and the answer of each call"


def _headers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are there, ours over them whatever their case."""
    names = {name.lower() for name in HEADERS}
    there = config.get("headers") or {}
    return {name: value for name, value in there.items() if name.lower() not in names} | HEADERS


def _usual() -> dict[str, Any]:
    return {"connection_type": "external"}


def _placed(values: list[Any], index: int, value: str) -> list[Any]:
    padded = [*values, *[""] * (index + 1 - len(values))]
    return [*padded[:index], value, *padded[index + 1 :]]


def _listed(document: Mapping[str, Any], name: str) -> list[Any]:
    values = document.get(name)
    return list(values) if isinstance(values, list) else []


def _config(configs: Any, index: int) -> dict[str, Any]:
    found = configs.get(str(index)) if isinstance(configs, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _plain(url: str) -> str:
    return url.rstrip("/").lower()
