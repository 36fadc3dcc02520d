"""A call as a value begins with nothing having become of it."""

from __future__ import annotations

from gateway.story import Clock, Story
from ledger.ids import uuid7
from policies.principal import Principal
from tests.gateway.parts import CHAT, chat_request


def test_a_call_that_begins_has_cost_nothing_and_nothing_has_happened_but_its_beginning() -> None:
    principal = Principal(uuid7(), uuid7(), "local", "ada", "", "Ada", "user", "paid", "active", "en")
    story = Story(uuid7(), CHAT, principal, chat_request(), [], "", Clock(7.0), "paid", "small")
    assert (story.amount, story.tokens, story.status, story.code) == (0, 0, 0, "")
    assert (story.outcome, story.reading, story.upload) == (None, None, None)
    clock = story.clock
    assert clock.begun == 7.0
    assert not any((clock.sent, clock.head, clock.first, clock.moved, clock.whole))
