"""Deeds are done in an order that holds, and one that cannot be done stops no other."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts
from ledger.audit import Actor
from openwebui.deeds import Join, MakeAccount, MakeGroup, RenameGroup, RetireGroup, Suspend
from openwebui.difference import Difference
from openwebui.doing import Doing
from openwebui.kept import Mark
from openwebui.mirror_sql import Mirror
from openwebui.shapes import Person

BY = Actor("tester")


async def test_people_and_groups_are_there_before_somebody_joins(engine: AsyncEngine, accounts: Accounts) -> None:
    mirror = Mirror(engine, "r")
    doing = Doing(accounts, mirror, BY, {})
    joins = Join("g", "team", (), ("u",), ("a@x",))
    await doing.all(Difference(deeds=(joins, MakeGroup("g", "team"), MakeAccount(Person("u", "a@x", "A", "admin")))))
    user = await accounts.find_user("u")
    assert user is not None and (user.realm, user.role, len(user.groups)) == ("r", "admin", 1)
    kept = await mirror.kept()
    assert kept.circles["g"].name == "team" and doing.failed == []


async def test_what_cannot_be_done_is_told_and_the_rest_is_done(engine: AsyncEngine, accounts: Accounts) -> None:
    await accounts.create_group(name="taken")
    other = await accounts.create_group(name="other")
    user = await accounts.create_user(name="A", email="a@x")
    doing = Doing(accounts, Mirror(engine, "r"), BY, {})
    deeds = (RenameGroup(other.group.id, "other", "taken"), Suspend(user.id, "a@x", "deleted"))
    await doing.all(Difference(deeds=deeds, marks={"u": Mark("user", here=False, suspended=True)}))
    assert doing.failed == ["the group other is called taken: there is a group taken already"]
    after = await accounts.user(user.id)
    assert after is not None and after.status == "suspended"
    assert (await Mirror(engine, "r").kept()).marks == {"u": Mark("user", here=False, suspended=True)}


async def test_a_group_that_is_retired_is_known_no_more(engine: AsyncEngine, accounts: Accounts) -> None:
    mirror = Mirror(engine, "r")
    made = await accounts.create_group(name="team")
    await mirror.link("g", made.group.id)
    await Doing(accounts, mirror, BY, {}).all(Difference(deeds=(RetireGroup("g", made.group.id, "team", 0),)))
    assert (await mirror.kept()).circles == {}
    found = await accounts.find_group(made.group.id)
    assert found is not None and found.retired_at is not None


async def test_a_join_whose_group_could_not_be_made_waits(engine: AsyncEngine, accounts: Accounts) -> None:
    doing = Doing(accounts, Mirror(engine, "r"), BY, {})
    await doing.all(Difference(deeds=(Join("g", "team", (uuid4(),), ("nobody",), ("a@x",)),)))
    assert doing.failed == []
