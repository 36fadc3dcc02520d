"""Who and what is in an Open WebUI at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from openwebui.shapes import Circle, Person


class Census(Struct, frozen=True):
    """Everybody by id, every group by id, and the groups each person belongs to: those it was put into and those above
    them."""

    people: dict[str, Person]
    circles: dict[str, Circle]

    def circles_of(self, person: Person) -> frozenset[str]:
        """The groups this person belongs to."""
        return frozenset(each for group in person.group_ids for each in _upwards(group, self.circles))


def _upwards(group: str, circles: Mapping[str, Circle]) -> Iterator[str]:
    """The group and those above it, each once even where somebody made a ring of them."""
    seen: set[str] = set()
    above: str | None = group
    while above is not None and above in circles and above not in seen:
        seen.add(above)
        yield above
        above = circles[above].parent_group_id
