"""What an operator is told to set, and what not."""

from __future__ import annotations

import pytest
from msgspec import Struct

from farebox.connect_advice import environment
from farebox.findings import Found

CLOSED = Found("open webui", "model access", "warning", "…")


class Seen(Struct, frozen=True):
    """Whether users arrive."""

    arrive: bool | None


def lines(
    arrive: bool | None, *, has_secret: bool = False, syncs: bool = True, found: tuple[Found, ...] = ()
) -> list[str]:
    told = environment(Seen(arrive), found, has_secret=has_secret, syncs=syncs, url="http://chat:8080")
    return list(told.lines())


@pytest.mark.parametrize("has_secret", [True, False])
def test_nothing_is_to_be_set_where_all_is_right(has_secret: bool) -> None:
    assert lines(True, has_secret=has_secret) == []


def test_a_secret_is_offered_for_both_sides_and_is_the_same() -> None:
    told = [line.strip() for line in lines(False)]
    [theirs] = [line for line in told if line.startswith("FORWARD_USER_INFO_HEADER_JWT_SECRET=")]
    [ours] = [line for line in told if line.startswith("FAREBOX_OPENWEBUI__JWT_SECRET=")]
    secret = theirs.partition("=")[2]
    assert ours.partition("=")[2] == secret and len(secret) >= 32
    assert "ENABLE_FORWARD_USER_INFO_HEADERS=true" in told
    assert secret not in "".join(lines(False))


def test_a_secret_farebox_has_is_not_repeated() -> None:
    told = "\n".join(lines(False, has_secret=True))
    assert "FORWARD_USER_INFO_HEADER_JWT_SECRET=<the value of FAREBOX_OPENWEBUI__JWT_SECRET>" in told
    assert "environment of Farebox" not in told


def test_while_nothing_is_known_a_secret_is_offered_only_where_there_is_none() -> None:
    assert lines(None, has_secret=True) == []
    assert lines(None) != []


def test_models_that_nobody_sees_and_a_sync_that_is_not_set_up() -> None:
    told = "\n".join(lines(True, syncs=False, found=(CLOSED,)))
    assert "BYPASS_MODEL_ACCESS_CONTROL=true" in told and "FAREBOX_OPENWEBUI__URL=http://chat:8080" in told
