"""What a sync would do, from values alone."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from openwebui.census import Census
from openwebui.deeds import ChangeAccount, MakeAccount, Restore, Suspend
from openwebui.difference import Difference, cleaned, difference
from openwebui.kept import Account, Kept, Mark
from openwebui.shapes import Person

REALM = "open-webui"


def census(*people: Person) -> Census:
    return Census({each.id: each for each in people}, {})


def account(subject: str, *, status: str = "active", role: str = "user", merged_into: UUID | None = None) -> Account:
    return Account(uuid4(), REALM, subject, f"{subject}@x", subject, role, status, merged_into)


def kept(*accounts: Account, **marks: Mark) -> Kept:
    return Kept(REALM, {each.id: each for each in accounts}, marks)


def there(subject: str, role: str = "user") -> Person:
    return Person(subject, f"{subject}@x", subject, role)


def kinds(found: Difference) -> list[type]:
    return [type(deed) for deed in found.deeds]


def test_a_first_look_makes_accounts_and_remembers_everybody() -> None:
    found = difference(census(there("a"), there("b", "pending"), there("c", "admin")), kept())
    assert [deed.person.id for deed in found.deeds if isinstance(deed, MakeAccount)] == ["a", "c"]
    assert found.marks == {"a": Mark("user"), "b": Mark("pending", here=False), "c": Mark("admin")}
    assert (found.taken, found.known) == (frozenset(), 0)


def test_nothing_differs_the_second_time() -> None:
    found = difference(census(there("a")), kept(account("a"), a=Mark("user")))
    assert (found.deeds, found.marks, found.offers) == ((), {}, ())


@pytest.mark.parametrize(
    ("status", "mark", "person", "deed"),
    [
        ("active", Mark("user"), None, Suspend),
        ("active", Mark("user"), there("a", "pending"), Suspend),
        ("active", None, None, None),  # never seen there
        ("active", None, there("a", "pending"), Suspend),
        ("suspended", Mark("user"), None, None),  # an admin did it already
        ("deleted", Mark("user"), None, None),
        ("active", Mark("user", here=False, suspended=True), None, None),  # an admin lets them go on
        ("suspended", Mark("user", here=False, suspended=True), there("a"), Restore),
        ("suspended", Mark("user", here=False), there("a"), None),  # an admin's suspension
        ("deleted", Mark("user", here=False, suspended=True), there("a"), None),
    ],
)
def test_who_is_suspended_and_who_is_restored(
    status: str, mark: Mark | None, person: Person | None, deed: type | None
) -> None:
    marks = {"a": mark} if mark else {}
    found = difference(census(*[person] if person else []), kept(account("a", status=status), **marks))
    assert kinds(found) == ([deed] if deed else [])
    assert bool(found.taken) == (deed is Suspend)


def test_what_a_sync_suspended_is_remembered_until_they_are_there_again() -> None:
    mine = account("a")
    gone = difference(census(), kept(mine, a=Mark("user")))
    assert gone.marks == {"a": Mark("user", here=False, suspended=True)}
    again = difference(census(there("a")), kept(account("a", status="suspended"), **gone.marks))
    assert again.marks == {"a": Mark("user")}


@pytest.mark.parametrize(
    ("here", "mark", "role", "then"),
    [
        ("user", None, "admin", "admin"),
        ("user", Mark("user"), "admin", "admin"),
        ("vip", Mark("user"), "user", "vip"),
        ("admin", Mark("user"), "user", "admin"),  # an admin gave it here
        ("admin", Mark("admin"), "user", "user"),
        ("vip", Mark("admin"), "user", "vip"),
        ("user", Mark("admin"), "admin", "user"),  # an admin took it here
    ],
)
def test_a_role_follows_what_changed_there(here: str, mark: Mark | None, role: str, then: str) -> None:
    marks = {"a": mark} if mark else {}
    found = difference(census(there("a", role)), kept(account("a", role=here), **marks))
    changed = [deed.after["role"] for deed in found.deeds if isinstance(deed, ChangeAccount)]
    assert changed == ([then] if then != here else [])


def test_an_empty_name_there_takes_none_away_here() -> None:
    found = difference(census(Person("a", "", "\x1b[0m", "user")), kept(account("a"), a=Mark("user")))
    assert found.deeds == ()
    assert cleaned("  Grace ") == "Grace" and cleaned("x" * 321) == "" and cleaned("a\nb") == ""


def test_a_merged_identity_changes_nothing_of_the_account_that_goes_on() -> None:
    target = account("a")
    source = account("b", status="deleted", merged_into=target.id)
    found = difference(census(there("a"), there("b")), kept(target, source, a=Mark("user"), b=Mark("user")))
    assert found.deeds == ()


def test_an_account_lives_while_one_of_its_identities_may_be_elsewhere() -> None:
    """One identity is gone from there; the other was never seen there, so it cannot be gone."""
    target = account("a")
    source = account("b", status="deleted", merged_into=target.id)
    assert difference(census(), kept(target, source, a=Mark("user"))).deeds == ()
    assert kinds(difference(census(), kept(target, source, a=Mark("user"), b=Mark("user")))) == [Suspend]


def test_somebody_whose_id_no_account_can_have_is_told_and_left_out() -> None:
    found = difference(census(Person("x" * 256, "a@x"), Person("a\n", "b@x")), kept())
    assert (found.deeds, len(found.notes)) == ((), 2)
