"""An explanation while it is written: rules one after another, and the first that keeps the call from passing. Pure."""

from __future__ import annotations

from typing import Any

from gateway.errors import Refusal
from policies.explanation import Explanation, Rule


class Report:
    """``stopped`` is what the call would be told, None while nothing keeps it."""

    def __init__(self) -> None:
        self.stopped: Refusal | None = None
        self._rules: list[Rule] = []

    def passes(self, name: str, says: str, **detail: Any) -> None:
        """This rule lets the call through."""
        self._rules.append(Rule(name, "pass", says, detail))

    def stops(self, refusal: Refusal) -> None:
        """A call that nothing kept so far would be told this."""
        self.stopped = self.stopped or refusal

    def refuses(self, name: str, refusal: Refusal, says: str = "", **detail: Any) -> None:
        """This rule refuses it: in the gateway's own words, where no others are given."""
        self._rules.append(Rule(name, "refuse", says or refusal.message, detail))
        self.stops(refusal)

    def unknown(self, name: str, says: str, refusal: Refusal) -> None:
        """Whoever decides does not answer: a call would get this refusal."""
        self._rules.append(Rule(name, "unknown", says))
        self.stops(refusal)

    def explanation(self, tier: str, model: str | None) -> Explanation:
        stopped = self.stopped
        code, message = (stopped.code, stopped.message) if stopped else ("", "")
        return Explanation(stopped is None, code, message, tier, model, tuple(self._rules))
