"""What a prompt asks of the backend, and the text it is answered with.

A token is three bytes of text here: a blank and a word of two letters, which the vocabulary counts as one. So what
bytes say, what tokens say and what a checkpoint reckons (bytes / 3) is the same number, and bounds are sharp.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Literal

_LETTERS = "toofinisitonnobyupsowedogomymeanasatbeorifheusam"
WORDS = tuple(f" {_LETTERS[at : at + 2]}" for at in range(0, len(_LETTERS), 2))
TOKEN_BYTES = 3
PROMPT_TOKENS = 31
"""What the backend says a prompt has; our own count of one differs from it, so that they cannot be mixed up."""

# "head": no attempt is ever answered. "first": the first attempt is not. "middle": reset after ``at`` tokens.
# "stall": silent after ``at`` tokens.
Fail = Literal["none", "head", "first", "middle", "stall"]
Reports = Literal["end", "every", "none"]
_MARK = "plan"


@dataclass(frozen=True, slots=True)
class Plan:
    """``nonce`` names the call. ``rate``: tokens a second, ``chunk``: tokens a piece, ``usage``: when it says them."""

    nonce: str
    rate: float = 20.0
    length: int = 60
    chunk: int = 1
    usage: Reports = "end"
    fail: Fail = "none"
    at: int = 0

    def prompt(self) -> str:
        """The words a caller sends."""
        return " ".join([_MARK, *(f"{name}={value}" for name, value in asdict(self).items())])

    @classmethod
    def read(cls, prompt: str) -> Plan:
        """The plan in these words. Raises ValueError."""
        mark, *parts = prompt.split()
        if mark != _MARK:
            raise ValueError("no plan")
        told = dict(part.split("=", 1) for part in parts)
        numbers = {name: int(told[name]) for name in ("length", "chunk", "at")}
        words: dict[str, str] = {name: told[name] for name in ("nonce", "usage", "fail")}
        return cls(rate=float(told["rate"]), **numbers, **words)  # type: ignore[arg-type]  # both sides are ours

    @property
    def reaches(self) -> int:
        """How many tokens of an answer there are before it ends or fails."""
        match self.fail:
            case "head":
                return 0
            case "middle" | "stall":
                return min(self.at, self.length)
            case _:
                return self.length


def text_of(nonce: str, length: int) -> str:
    """The first ``length`` tokens of this call's answer; no two calls have the same."""
    return "".join(random.Random(nonce).choices(WORDS, k=length))
