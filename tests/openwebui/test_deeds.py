"""Every deed says in a sentence what is done to whom."""

from __future__ import annotations

from uuid import UUID

from openwebui.deeds import (
    ChangeAccount,
    Deed,
    Join,
    Leave,
    MakeAccount,
    MakeGroup,
    RenameGroup,
    Restore,
    RetireGroup,
    Suspend,
    named,
)
from openwebui.shapes import Person

U = UUID(int=1)


def test_sentences() -> None:
    deeds: list[tuple[Deed, str]] = [
        (MakeAccount(Person("u1", "a@x")), "a@x gets an account"),
        (MakeAccount(Person("u1")), "u1 gets an account"),
        (ChangeAccount(U, "a@x", {"name": "A"}, {"name": "B"}), "a@x: name 'A' -> 'B'"),
        (Suspend(U, "a@x", "deleted"), "a@x is suspended: deleted there"),
        (Restore(U, ""), f"{U} is active again"),
        (MakeGroup("g", "team"), "the group team is made"),
        (RenameGroup(U, "team", "crew"), "the group team is called crew"),
        (RetireGroup("g", U, "team", 1), "the group team is retired; it had 1 member"),
        (Join("g", "team", (U,), (), ("a@x",)), "a@x joins the group team"),
        (Leave(U, "team", (U, U), ("a@x", "b@x")), "a@x, b@x leave the group team"),
    ]
    assert [deed.line for deed, _ in deeds] == [line for _, line in deeds]


def test_a_long_list_is_shortened() -> None:
    assert named(tuple("abcdefg")) == "a, b, c, d, e and 2 more"
