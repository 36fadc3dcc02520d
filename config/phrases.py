"""The sentences people are told, by their keys: what may stand in each, and what a tier's own text must be like. Pure.

The texts themselves are the gateway's (`gateway/languages/`, a file for each language). A tier may hold texts of its
own, by language and key. A placeholder is a name in braces; there is nothing else a brace may mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from config.complaints import did_you_mean

CHARS_MAX = 300
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
"""A place in a text: a name in braces."""

_LANGUAGES_MAX = 64
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
# What is no line break and no control character, to any reader.
_PLAIN = r"[^{}\x00-\x1f\x7f-\x9f\u2028\u2029]"

_WAIT, _URL = ("wait",), ("url",)
_BUDGETS = {
    f"{whose}_budget_{state}": places
    for whose in ("key", "member", "task")
    for state, places in {
        "used": ("limit",),
        "used_until": ("limit", "date"),
        "short": ("limit", "left"),
        "short_until": ("limit", "left", "date"),
    }.items()
}

PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "rate_wait": ("pace", "wait"),
    "rate_upgrade": ("pace", "url"),
    "tasks_rate_wait": ("pace", "wait"),
    "tasks_rate_upgrade": ("pace", "url"),
    "embeddings_rate_wait": ("pace", "wait"),
    "embeddings_rate_upgrade": ("pace", "url"),
    "key_rate_wait": ("pace", "wait"),
    "key_rate": ("pace",),
    "concurrent_one": ("limit", "wait"),
    "concurrent": ("limit", "wait"),
    "concurrent_tasks": ("limit", "wait"),
    "concurrent_embeddings": ("limit", "wait"),
    "limits_unknown": _WAIT,
    "model_not_allowed": ("model", "plan", "url"),
    "no_model_granted": ("plan", "url"),
    "feature_not_allowed": ("feature", "plan", "url"),
    "key_without_model": ("model",),
    "answer_too_long": ("limit", "asked"),
    "conversation_too_long": ("limit", "asked"),
    "balance_short": ("balance", "url"),
    "allowance_used": ("every", "date", "url"),
    "allowance_short": ("every", "left", "date", "url"),
    "tokens_none": ("plan", "url"),
    "tokens_used": ("every", "amount", "date", "url"),
    "tokens_short": ("every", "amount", "left", "date", "url"),
    **_BUDGETS,
    "cut_balance": _URL,
    "cut_allowance": _URL,
    "cut_tokens": _URL,
    "cut_key_budget": (),
    "cut_member_budget": (),
    "cut_task_budget": (),
    "interrupted": (),
    "account_suspended": (),
    "account_closed": (),
    "no_tier": (),
    "model_unknown": ("model",),
    "model_unpriced": ("model",),
    "request_repeated": (),
    "key_reused": ("request",),
    "restarting": _WAIT,
    "too_busy": _WAIT,
    "uploads_full": _WAIT,
    "uploads_yours": (),
    "body_too_large": ("limit",),
    "body_slow": (),
    "backend_late": (),
    "backend_failed": (),
    "ledger_away": _WAIT,
    "keys_unknown": _WAIT,
    "internal": (),
    "notice_allowance": ("percent", "every", "left", "date", "url"),
    "notice_balance": ("balance", "url"),
}
"""Every sentence, and the names it may hold in braces."""


def placeholders(text: str) -> list[str]:
    """The names in braces, in the order in which they stand."""
    return PLACEHOLDER.findall(text)


def checked_text(key: str, text: str) -> str:
    """The text, if it can stand for this sentence. Raises ValueError, saying what is wrong."""
    if key not in PLACEHOLDERS:
        raise ValueError(f"there is no sentence {key}{did_you_mean(key, PLACEHOLDERS)}")
    if not 0 < len(text) <= CHARS_MAX:
        raise ValueError(f"{key} must have 1 to {CHARS_MAX} characters")
    known = PLACEHOLDERS[key]
    if unknown := [name for name in placeholders(text) if name not in known]:
        may = ", ".join(f"{{{name}}}" for name in known) or "nothing in braces"
        raise ValueError(f"{key} cannot hold {{{unknown[0]}}}; it may hold {may}")
    if not re.fullmatch(f"{_PLAIN}*", PLACEHOLDER.sub("", text)):
        raise ValueError(f"{key} must be one line, without braces but those of a placeholder")
    return text


def _checked(texts: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    for language, own in texts.items():
        if not re.fullmatch(_LANGUAGE, language):
            raise ValueError(f"{language[:40]!r} is not the code of a language, like en or fa")
        for key, text in own.items():
            checked_text(key, text)
    return texts


def _text_schema(places: tuple[str, ...]) -> dict[str, Any]:
    named = "".join(rf"|\{{{name}\}}" for name in places)
    return {"type": "string", "minLength": 1, "maxLength": CHARS_MAX, "pattern": f"^({_PLAIN}{named})+$"}


_SCHEMA = {
    "title": "Sentences",
    "type": "object",
    "maxProperties": _LANGUAGES_MAX,
    "propertyNames": {"pattern": f"^{_LANGUAGE}$"},
    "additionalProperties": {
        "type": "object",
        "properties": {key: _text_schema(places) for key, places in PLACEHOLDERS.items()},
        "additionalProperties": False,
    },
}

OwnTexts = Annotated[
    dict[str, dict[str, str]], Field(max_length=_LANGUAGES_MAX), AfterValidator(_checked), WithJsonSchema(_SCHEMA)
]
"""A tier's own texts: by language, then by the sentence's key."""
