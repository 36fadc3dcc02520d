"""The address of the webhook: known by its secret, believed in nothing."""

from __future__ import annotations

from typing import Any

import pytest

from openwebui.hook import EVENTS, PREFIX, Hook, hook_secret, hook_url, wanted
from openwebui.shapes import Webhook

PEPPER = b"p" * 32
URL = hook_url("http://farebox:8080/", PEPPER)


async def asked(path: str, method: str = "POST") -> tuple[int, int]:
    """The status of an answer, and how many nudges it came to."""
    nudges, sent = [], list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of what comes is read")

    await Hook(PEPPER, lambda: nudges.append(1))({"type": "http", "path": path, "method": method}, receive, send)
    return int(sent[0]["status"]), len(nudges)


async def test_who_knows_the_address_has_a_sync_begin() -> None:
    assert await asked(PREFIX + hook_secret(PEPPER)) == (204, 1)


@pytest.mark.parametrize("rest", ["", "wrong", hook_secret(b"q" * 32), hook_secret(PEPPER) + "/", "\udcff", "ü"])
async def test_nobody_else_does(rest: str) -> None:
    assert await asked(PREFIX + rest) == (404, 0)


async def test_reading_the_address_does_nothing() -> None:
    assert await asked(PREFIX + hook_secret(PEPPER), "GET") == (405, 0)


def test_the_secret_is_the_same_everywhere_and_is_not_the_pepper() -> None:
    assert hook_secret(PEPPER) == hook_secret(PEPPER) != hook_secret(b"q" * 32)
    assert f"http://farebox:8080{PREFIX}{hook_secret(PEPPER)}" == URL


def test_a_webhook_that_is_right_is_left_alone() -> None:
    right = Webhook("w", "Whatever", URL, True, EVENTS)
    assert wanted([Webhook("a", "Slack", "https://hooks.slack.com/x"), right], URL) == ("w", None)


@pytest.mark.parametrize(
    "wrong",
    [
        Webhook("w", "Farebox", URL, False, EVENTS),
        Webhook("w", "Farebox", URL, True, ("*",)),
        Webhook("w", "Farebox", f"http://old{PREFIX}before", True, EVENTS),
    ],
)
def test_one_that_is_not_is_changed(wrong: Webhook) -> None:
    webhook_id, document = wanted([wrong], URL)
    assert webhook_id == "w" and document is not None and document["url"] == URL


def test_somebody_elses_webhook_is_not_ours() -> None:
    webhook_id, document = wanted([Webhook("s", "Farebox", "https://example.org/other")], URL)
    assert webhook_id is None and document is not None
