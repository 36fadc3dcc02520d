"""Which groups there are, how they are called, and who belongs to them; from values alone."""

from __future__ import annotations

from uuid import UUID, uuid4

from openwebui.census import Census
from openwebui.deeds import Join, Leave, MakeGroup, RenameGroup, RetireGroup
from openwebui.kept import Account, Kept, KeptCircle, Mark
from openwebui.memberships import Circles, membership_deeds
from openwebui.shapes import Circle, Person

G, H = uuid4(), uuid4()


def account(subject: str, *groups: UUID, status: str = "active") -> Account:
    return Account(uuid4(), "r", subject, f"{subject}@x", "", "user", status, None, frozenset(groups))


def kept(*accounts: Account, names: dict[str, UUID] | None = None, **circles: KeptCircle) -> Kept:
    marks = {each.subject: Mark("user") for each in accounts}
    return Kept("r", {each.id: each for each in accounts}, marks, circles, names or {})


def found(census: Census, state: Kept) -> Circles:
    return membership_deeds(census, census.people, state)


def census(people: dict[str, tuple[str, ...]], **names: str) -> Census:
    everybody = {each: Person(each, f"{each}@x", each, "user", groups) for each, groups in people.items()}
    return Census(everybody, {each: Circle(each, name) for each, name in names.items()})


def test_a_group_is_made_and_joined_by_those_who_are_here_and_those_who_come() -> None:
    ada = account("ada")
    deeds = found(census({"ada": ("g",), "new": ("g",)}, g="team"), kept(ada)).deeds
    assert deeds == (MakeGroup("g", "team"), Join("g", "team", (ada.id,), ("new",), ("ada@x", "new@x")))


def test_who_is_in_too_many_groups_is_in_as_many_as_count() -> None:
    names = {f"g{n:02}": f"team {n}" for n in range(40)}
    result = found(census({"ada": tuple(names)}, **names), kept(account("ada")))
    assert sum(isinstance(deed, Join) for deed in result.deeds) == 32
    assert len(result.notes) == 1 and "ada@x belongs to 40 groups; 32 count here" in result.notes[0]


def test_leaving_is_losing_something_and_joining_is_not() -> None:
    ada, bob = account("ada", G), account("bob")
    result = found(census({"ada": (), "bob": ("g",)}, g="team"), kept(ada, bob, g=KeptCircle(G, "team")))
    assert result.deeds == (Leave(G, "team", (ada.id,), ("ada@x",)), Join("g", "team", (bob.id,), (), ("bob@x",)))
    assert result.taken == {ada.id}


def test_whoever_waits_gets_no_membership_and_whoever_is_deleted_here_none_either() -> None:
    waiting = Person("w", "w@x", "w", "pending", ("g",))
    some = Census({"w": waiting, **census({"gone": ("g",)}).people}, {"g": Circle("g", "team")})
    assert found(some, kept(account("gone", status="deleted"))).deeds == (MakeGroup("g", "team"),)


def test_a_group_an_admin_retired_here_takes_nobody_in_and_is_not_made_again() -> None:
    state = kept(account("ada"), g=KeptCircle(G, "team", retired=True))
    assert found(census({"ada": ("g",)}, g="crew"), state).deeds == ()


def test_a_group_that_is_gone_is_retired_once() -> None:
    ada = account("ada", G)
    result = found(census({"ada": ()}), kept(ada, g=KeptCircle(G, "team"), h=KeptCircle(H, "old", retired=True)))
    assert result.deeds == (RetireGroup("g", G, "team", 1),) and result.taken == {ada.id}


def test_names_follow_and_do_not_collide() -> None:
    state = kept(names={"team": G, "local": H}, g=KeptCircle(G, "team"))
    some = census({}, g="local", a="team", b="team", c="")
    deeds = found(some, state).deeds
    assert deeds == (
        MakeGroup("a", "team (a)"),
        MakeGroup("b", "team (b)"),
        MakeGroup("c", "unnamed"),
        RenameGroup(G, "team", "local (g)"),
    )


def test_who_has_a_name_keeps_it() -> None:
    state = kept(names={"team": G, "team (h)": H}, g=KeptCircle(G, "team"), h=KeptCircle(H, "team (h)"))
    assert found(census({}, g="team", h="team"), state).deeds == ()


def test_a_name_stays_in_one_line() -> None:
    assert found(census({}, g="a\n\tb\x00 " + "c" * 300), kept()).deeds == (MakeGroup("g", "a b " + "c" * 176),)
