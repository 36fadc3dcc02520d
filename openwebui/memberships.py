"""The part of a difference that is about groups: which are there, how they are called, and who belongs to them. Pure.

A group there is known by its id and becomes a group here, which says what belonging to it gives: a tier, credits. Its
name follows the one there; where that is taken here, the beginning of its id stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from msgspec import Struct

from openwebui.census import Census
from openwebui.deeds import Deed, Join, Leave, MakeGroup, RenameGroup, RetireGroup, who
from openwebui.kept import Account, Kept
from openwebui.shapes import PENDING, Person

_NAME_MAX = 180


class Circles(Struct, frozen=True):
    """The deeds, what could not be done, and the accounts that lose a group."""

    deeds: tuple[Deed, ...] = ()
    notes: tuple[str, ...] = ()
    taken: frozenset[UUID] = frozenset()


class _Wanted(Struct):
    """Who should belong to a group: accounts, and people who are to get one."""

    accounts: set[UUID]
    newcomers: list[Person]


def membership_deeds(census: Census, usable: dict[str, Person], kept: Kept) -> Circles:
    """All of it."""
    deeds, notes, taken = list[Deed](), list[str](), set[UUID]()
    names = _names(census, kept)
    deeds += _made_or_renamed(census, kept, names)
    known = _known(usable, kept)
    for circle_id, wanted in _wanted(census, usable, kept, notes).items():
        deeds += _difference(circle_id, names.get(circle_id, ""), wanted, known, kept, taken)
    deeds += _retired(census, kept, known, taken)
    return Circles(tuple(deeds), tuple(notes), frozenset(taken))


def _names(census: Census, kept: Kept) -> dict[str, str]:
    """What each group is to be called here."""
    holders, names = dict(kept.names), {}
    for circle in sorted(census.circles.values(), key=lambda each: (each.id not in kept.circles, each.id)):
        there = kept.circles.get(circle.id)
        own = there.group_id if there else None
        name = _shown(circle.name)
        # Who has the plain name keeps it, so that two of one name do not take it from each other.
        holder = holders.get(name)
        free = holder is None or holder == own
        names[circle.id] = name if free else f"{name} ({circle.id[:8]})"
        holders[names[circle.id]] = own or UUID(int=0)
    return names


def _shown(name: str) -> str:
    """The name in one line; a group without one is called that."""
    return " ".join("".join(each if each.isprintable() else " " for each in name).split())[:_NAME_MAX] or "unnamed"


def _made_or_renamed(census: Census, kept: Kept, names: dict[str, str]) -> Iterator[Deed]:
    for circle_id in sorted(census.circles):
        there, name = kept.circles.get(circle_id), names[circle_id]
        if there is None:
            yield MakeGroup(circle_id, name)
        elif not there.retired and there.name != name:
            yield RenameGroup(there.group_id, there.name, name)


def _known(usable: dict[str, Person], kept: Kept) -> dict[UUID, Account]:
    """The accounts whose belonging follows Open WebUI: of those who are there, or once were."""
    subjects = kept.by_subject()
    seen = (subjects[each] for each in usable.keys() | kept.marks.keys() if each in subjects)
    return {account.id: account for account in map(kept.going_on, seen)}


def _wanted(census: Census, usable: dict[str, Person], kept: Kept, notes: list[str]) -> dict[str, _Wanted]:
    """Who should belong to which group. A retired one takes nobody in."""
    open_circles = {
        each: _Wanted(set(), []) for each in census.circles if not (each in kept.circles and kept.circles[each].retired)
    }
    subjects, linked = kept.by_subject(), {each.group_id for each in kept.circles.values()}
    for person in usable.values():
        account = subjects.get(person.id)
        goes_on = None if account is None else kept.going_on(account)
        if not _may_belong(person, goes_on):
            continue
        others = len(goes_on.groups - linked) if goes_on else 0
        mine = sorted(census.circles_of(person) & open_circles.keys())
        if len(mine) + others > kept.groups_max:
            notes.append(f"{who(person.email, person.id)} belongs to {len(mine)} groups; {kept.groups_max} count here")
            mine = mine[: max(0, kept.groups_max - others)]
        for circle_id in mine:
            if goes_on is None:
                open_circles[circle_id].newcomers.append(person)
            else:
                open_circles[circle_id].accounts.add(goes_on.id)
    return open_circles


def _may_belong(person: Person, account: Account | None) -> bool:
    return person.role != PENDING if account is None else account.status != "deleted"


def _difference(
    circle_id: str, name: str, wanted: _Wanted, known: dict[UUID, Account], kept: Kept, taken: set[UUID]
) -> Iterator[Deed]:
    there = kept.circles.get(circle_id)
    members = {each.id for each in known.values() if there and there.group_id in each.groups}
    leaving = sorted(members - wanted.accounts)
    if there and leaving:
        taken.update(leaving)
        emails = tuple(who(known[each].email, str(each)) for each in leaving)
        yield Leave(there.group_id, name, tuple(leaving), emails)
    joining = [kept.accounts[each] for each in sorted(wanted.accounts - members)]
    if joining or wanted.newcomers:
        people = [who(each.email, str(each.id)) for each in joining]
        people += [who(each.email, each.id) for each in wanted.newcomers]
        newcomers = tuple(each.id for each in wanted.newcomers)
        yield Join(circle_id, name, tuple(each.id for each in joining), newcomers, tuple(people))


def _retired(census: Census, kept: Kept, known: dict[UUID, Account], taken: set[UUID]) -> Iterator[Deed]:
    for circle_id, there in sorted(kept.circles.items()):
        if circle_id in census.circles or there.retired:
            continue
        members = [each.id for each in known.values() if there.group_id in each.groups]
        taken.update(members)
        yield RetireGroup(circle_id, there.group_id, there.name, len(members))
