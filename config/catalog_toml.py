"""A catalogue as the text of an operator's file. Pure: what ``catalog_file.py`` reads, the other way round.

One entry is one ``[[table]]`` with a line for each field, as people write it and as a diff shows it best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import tomli_w

from config.catalog import Declared
from config.catalog_document import model_document, task_document, tier_document, upstream_document
from config.form import Document

_LINE_MAX = 110


def catalog_toml(catalog: Declared) -> str:
    """The whole catalogue; ``read_catalog`` of it gives the same values."""
    tables = (
        ("upstreams", map(upstream_document, catalog.upstreams)),
        ("models", (model_document(model, catalog.rates.get(model.id)) for model in catalog.models)),
        ("tiers", map(tier_document, catalog.tiers)),
        ("tasks", map(task_document, catalog.tasks)),
    )
    return "\n".join(entry for table, documents in tables for entry in _entries(table, documents))


def _entries(table: str, documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        yield f"[[{table}]]\n" + "".join(f"{_key(name)} = {_field(value)}\n" for name, value in document.items())


def _field(value: Any) -> str:
    """A list that is too long for one line has a line for each member: an inline table, by TOML, has no line breaks."""
    line = _inline(value)
    if not isinstance(value, list) or len(line) <= _LINE_MAX:
        return line
    return "[\n" + "".join(f"  {_inline(member)},\n" for member in value) + "]"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        members = ", ".join(f"{_key(name)} = {_inline(member)}" for name, member in value.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").removesuffix("\n")


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
