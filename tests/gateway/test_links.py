"""The token of a link: it opens one person's page for a while, and nothing else does."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

import pytest

from gateway.links import Links, Opened

PEPPER = b"pepper-for-tests-0123456789abcdef"
ADA, BOB = UUID(int=7), UUID(int=8)
URL = "https://fare.example"


@pytest.fixture
def links() -> Links:
    return Links(PEPPER, URL + "/", 900)


def test_a_token_opens_its_own_page_until_it_ends(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    token = links.token(ADA)
    assert links.read(token) == Opened(ADA, int(now) + 900)
    monkeypatch.setattr(time, "time", lambda: now + 899)
    assert links.read(token) is not None
    monkeypatch.setattr(time, "time", lambda: now + 901)
    assert links.read(token) is None


def test_a_token_is_short_and_fits_an_address(links: Links) -> None:
    token = links.token(ADA)
    assert len(token) <= 64 and token.replace("-", "").replace("_", "").isalnum() and token.isascii()


def test_no_character_of_a_token_can_be_another(links: Links) -> None:
    token = links.token(ADA)
    for at, letter in enumerate(token):
        for other in ("A" if letter != "A" else "B", "é", "=", " "):
            assert links.read(token[:at] + other + token[at + 1 :]) is None, at


@pytest.mark.parametrize("token", ["", "x", "A" * 50, "A" * 64, "A" * 10_000, "%", "\0", "\u2069", "ü" * 50])
def test_what_is_no_token_opens_nothing(links: Links, token: str) -> None:
    assert links.read(token) is None


def test_anothers_id_with_a_proof_of_ones_own_opens_nothing(links: Links) -> None:
    own = _raw(links.token(ADA))
    forged = BOB.bytes + own[16:]
    assert links.read(urlsafe_b64encode(forged).decode().rstrip("=")) is None
    longer = own[:16] + (int.from_bytes(own[16:21]) + 3600).to_bytes(5) + own[21:]
    assert links.read(urlsafe_b64encode(longer).decode().rstrip("=")) is None


def test_a_house_with_another_secret_reads_none_of_it(links: Links) -> None:
    assert Links(b"another" + PEPPER, URL, 900).read(links.token(ADA)) is None


def test_what_signs_is_not_the_secret_itself(links: Links) -> None:
    """A key is proven by an HMAC under the pepper: no such proof may ever serve as a token, or the other way round."""
    said = _raw(links.token(ADA))[:21]
    assert hmac.digest(PEPPER, said, "sha256")[:16] != _raw(links.token(ADA))[21:]


def test_marks_that_come_along_when_an_address_is_copied_do_no_harm(links: Links) -> None:
    assert links.read(links.token(ADA) + "\u2069\u2069") is not None
    assert links.read("\u2068" + links.token(ADA)) is not None


def test_only_pages_of_our_own_get_a_token(links: Links) -> None:
    for own in (f"{URL}/pricing", f"{URL}/pricing/", f"{URL}/account"):
        url = links.personal(own, ADA)
        assert url.startswith(f"{URL}/account?token=") and links.read(url.partition("=")[2])
    for other in (
        "https://shop.example/pricing",
        f"{URL}.evil.example/pricing",
        f"{URL}/pricing?x=1",
        f"{URL}/shop",
        "",
    ):
        assert links.personal(other, ADA) == other


def _raw(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))
