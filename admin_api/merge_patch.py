"""JSON merge patches (RFC 7396): what a PATCH of an entry of the catalogue brings. Pure.

A member that is named replaces the one that is there, a table is merged member by member, and null takes a member away,
which is then as it usually is. Lists are replaced whole.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from admin_api.wire import Body
from config.form import Document, Form


def merged(document: Document, patch: Document) -> Document:
    """The document after the patch; neither is changed."""
    result = dict(document)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inner = result.get(name)
            result[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[name] = value
    return result


def patch_of(form: type[Form], name: str) -> type[Body]:
    """The body of a PATCH: every field of the form may be left out or null, and tables need not be whole."""
    fields: dict[str, Any] = {field: _loose(info) for field, info in form.model_fields.items()}
    return create_model(name, __base__=Body, __doc__=_DOC, **fields)


_DOC = "A merge patch (RFC 7396): what is left out stays, null brings back the usual, tables are merged."


def sent(patch: Body) -> Document:
    """The patch as it came."""
    return patch.model_dump(mode="json", exclude_unset=True)


def _loose(info: FieldInfo) -> tuple[Any, Any]:
    kind: Any = dict[str, Any] if _is_table(info.annotation) else info.rebuild_annotation()
    return (kind | None, Field(None, description=info.description, examples=info.examples))


def _is_table(annotation: Any) -> bool:
    """Whether JSON has an object there: a form or a mapping, perhaps null."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return any(get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)) for kind in kinds)
