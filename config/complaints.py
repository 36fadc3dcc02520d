"""What is wrong with an operator's input, gathered so that all of it is told at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

# pydantic's own wording speaks to programmers; these speak to operators.
_PLAIN = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting",
    "string_type": "must be text",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
}
# Follow-ups of an error that is reported anyway.
_ECHOES = {"default_factory_not_called"}


class Complaint(NamedTuple):
    """One thing that is wrong: where, as the operator wrote it (``models[2].prices.input``), and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ComplaintsError(ValueError):
    """Everything that is wrong, one line each. The rejected values are never in it: one of them may be a secret."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(str(complaint) for complaint in self.complaints))


def path_text(location: Iterable[str | int]) -> str:
    """``("models", 2, "prices", "input")`` -> ``models[2].prices.input``."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def plain(error: Any) -> str | None:
    """One entry of pydantic's ``ValidationError.errors()`` in plain words; None for a mere echo of another one."""
    kind = error["type"]
    if kind in _ECHOES:
        return None
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in ("too_short", "string_too_short"):
        return f"must have at least {error['ctx']['min_length']} characters or members"
    message: str = error["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("Value should ")
    return message if kind == "value_error" else f"must be {message}"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``"; did you mean x?"`` where a known name is close, else nothing."""
    close = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""
