"""What a sync would do: an Open WebUI as it is, held against what is kept here. Pure.

Three rules. Only who was seen there before can be gone from there. What an admin of Farebox decided stays: whoever was
suspended by hand is not restored, whoever was restored by hand is not suspended again for the same absence. A person is
known by the id there; the same e-mail address under another id is another account, and only a hint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from msgspec import Struct

from accounts.users import SUBJECT_MAX, TEXT_MAX
from openwebui.census import Census
from openwebui.deeds import ChangeAccount, Deed, MakeAccount, Restore, Suspend, who
from openwebui.kept import Account, Kept, Mark
from openwebui.memberships import membership_deeds
from openwebui.shapes import ADMIN, PENDING, Person

TAKEN_FREELY = 5
TAKEN_PART = 5  # one in so many
_NOTES_MAX = 100


class Offer(Struct, frozen=True):
    """Two accounts with one e-mail address, the first of somebody who is gone there: an admin may merge them."""

    email: str
    source: UUID
    into: str
    """The other one's id there; its account may be made by this very sync."""


class Difference(Struct, frozen=True):
    """All that differs. ``taken`` are the accounts that would lose something; ``known`` is how many people were there
    when last looked."""

    deeds: tuple[Deed, ...] = ()
    marks: dict[str, Mark] = {}
    offers: tuple[Offer, ...] = ()
    notes: tuple[str, ...] = ()
    taken: frozenset[UUID] = frozenset()
    known: int = 0

    @property
    def too_much(self) -> bool:
        """Whether so many people would lose something that an admin has to say so: a wrong address or an emptied list
        looks just like this."""
        return len(self.taken) > TAKEN_FREELY and len(self.taken) * TAKEN_PART > self.known


def difference(census: Census, kept: Kept) -> Difference:
    """What is to be done here so that it is as it is there."""
    usable = {each.id: each for each in census.people.values() if _is_usable(each)}
    accounts = kept.by_subject()
    identities = _identities(kept, accounts)
    circles = membership_deeds(census, usable, kept)
    absent = list(_absences(usable, kept, identities))
    deeds = (
        *(MakeAccount(each) for each in usable.values() if each.id not in accounts and each.role != PENDING),
        *_changes(usable, kept, accounts),
        *absent,
        *circles.deeds,
    )
    suspended = {deed.user_id for deed in absent if isinstance(deed, Suspend)}
    return Difference(
        deeds=deeds,
        marks=_marks(usable, kept, accounts, suspended),
        offers=tuple(_offers(usable, kept, accounts)),
        notes=tuple([*_unusable(census), *circles.notes])[:_NOTES_MAX],
        taken=frozenset(suspended | circles.taken),
        known=sum(mark.here for mark in kept.marks.values()),
    )


def cleaned(text: str) -> str:
    """As what a call says of its user is read: text that cannot be shown counts as not said."""
    text = text.strip()
    return text if len(text) <= TEXT_MAX and text.isprintable() else ""


def _is_usable(person: Person) -> bool:
    return 0 < len(person.id) <= SUBJECT_MAX and person.id.isprintable()


def _unusable(census: Census) -> Iterator[str]:
    for person in census.people.values():
        if not _is_usable(person):
            yield f"{who(person.email, 'somebody')} has an id that no account can have, and is left out"


def _identities(kept: Kept, accounts: dict[str, Account]) -> dict[UUID, list[str]]:
    """By which ids there each account that goes on is known: several after a merge."""
    found: dict[UUID, list[str]] = defaultdict(list)
    for subject, account in accounts.items():
        found[kept.going_on(account).id].append(subject)
    return found


def _changes(usable: dict[str, Person], kept: Kept, accounts: dict[str, Account]) -> Iterator[Deed]:
    """An account follows its own identity, not one that was merged into it."""
    for person in usable.values():
        account = accounts.get(person.id)
        if account is None or account.merged_into is not None or account.status == "deleted":
            continue
        wanted = {"email": cleaned(person.email), "name": cleaned(person.name), "role": _role(person, account, kept)}
        after = {name: value for name, value in wanted.items() if value and value != getattr(account, name)}
        if after:
            before = {name: str(getattr(account, name)) for name in after}
            yield ChangeAccount(account.id, account.email or person.email, before, after)


def _role(person: Person, account: Account, kept: Kept) -> str:
    """Followed where it changed there since it was last seen; what an admin set here meanwhile stays otherwise."""
    mark = kept.marks.get(person.id)
    if person.role == ADMIN and (mark is None or mark.role != ADMIN):
        return ADMIN
    if mark is not None and mark.role == ADMIN and person.role != ADMIN and account.role == ADMIN:
        return "user"
    return account.role


def _absences(usable: dict[str, Person], kept: Kept, identities: dict[UUID, list[str]]) -> Iterator[Suspend | Restore]:
    """Who is not a user there any more, and who is one again."""
    for user_id, subjects in identities.items():
        account = kept.accounts[user_id]
        marks = [kept.marks[each] for each in subjects if each in kept.marks]
        there = [usable[each].role for each in subjects if each in usable]
        stopped = any(mark.suspended for mark in marks)
        if any(role != PENDING for role in there):
            if stopped and account.status == "suspended":
                yield Restore(user_id, account.email)
        elif (there or marks) and not stopped and account.status == "active" and _all_known(subjects, kept, usable):
            yield Suspend(user_id, account.email, "pending" if there else "deleted")


def _all_known(subjects: Iterable[str], kept: Kept, usable: dict[str, Person]) -> bool:
    """Whether each of these is there, or was once: somebody who was never seen there cannot be gone."""
    return all(each in usable or each in kept.marks for each in subjects)


def _marks(
    usable: dict[str, Person], kept: Kept, accounts: dict[str, Account], suspended: set[UUID]
) -> dict[str, Mark]:
    """What is to be remembered of everybody, where it differs from what is."""
    news = {}
    for subject in usable.keys() | kept.marks.keys():
        person, before, account = usable.get(subject), kept.marks.get(subject), accounts.get(subject)
        here = person is not None and person.role != PENDING
        stopped = account is not None and kept.going_on(account).id in suspended
        mark = Mark(
            role=person.role if person is not None else before.role if before else "",
            here=here,
            suspended=not here and (stopped or (before is not None and before.suspended)),
        )
        if mark != before:
            news[subject] = mark
    return news


def _offers(usable: dict[str, Person], kept: Kept, accounts: dict[str, Account]) -> Iterator[Offer]:
    """Whoever was deleted there and made anew has an account of another id, and the old one's money waits."""
    by_email = {person.email.casefold(): person.id for person in usable.values() if person.email}
    for subject in kept.marks.keys() - usable.keys():
        account = accounts.get(subject)
        if account is None or account.merged_into is not None or account.status == "deleted":
            continue
        again = by_email.get(account.email.casefold()) if account.email else None
        if again is not None and again != subject:
            yield Offer(account.email, account.id, again)
