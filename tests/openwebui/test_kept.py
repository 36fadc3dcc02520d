"""Who goes on for whom."""

from __future__ import annotations

from uuid import UUID, uuid4

from openwebui.kept import Account, Kept


def account(subject: str, merged_into: UUID | None = None, realm: str = "open-webui") -> Account:
    return Account(uuid4(), realm, subject, "", "", "user", "active", merged_into)


def test_an_account_is_known_by_its_id_there_in_its_realm_alone() -> None:
    ours, other = account("u"), account("u", realm="farebox")
    kept = Kept("open-webui", {each.id: each for each in (ours, other)})
    assert kept.by_subject() == {"u": ours}


def test_a_merged_account_leads_to_the_one_that_goes_on() -> None:
    last = account("c", realm="farebox")
    second = account("b", last.id)
    first = account("a", second.id)
    kept = Kept("open-webui", {each.id: each for each in (first, second, last)})
    assert kept.going_on(first) == last == kept.going_on(last)


def test_a_ring_ends() -> None:
    first = account("a")
    second = account("b", first.id)
    first = Account(first.id, "open-webui", "a", "", "", "user", "active", second.id)
    kept = Kept("open-webui", {each.id: each for each in (first, second)})
    assert kept.going_on(first) in (first, second)
