"""What an admin reads of a sync."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from openwebui.deeds import MakeGroup
from openwebui.difference import Difference
from openwebui.report import LINES_MAX, Report, lines_of, refusal

AT = datetime(2026, 12, 1, tzinfo=UTC)


def test_one_sentence_for_each_outcome() -> None:
    assert Report(AT, "done", people=3, groups=1, changes=2).sentence == "2 changes made; there are 3 users and 1 group"
    assert Report(AT, "unchanged", people=3).sentence == "nothing to change; there are 3 users and 0 groups"
    assert Report(AT, "tried", changes=2).sentence.startswith("2 changes would be made;")
    assert Report(AT, "failed", detail="away").sentence == "away"


def test_a_report_is_kept_as_json() -> None:
    report = Report(AT, "done", lines=("a",), notes=("b",))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(report)), Report) == report


def test_too_much_at_once_is_more_than_five_and_more_than_a_fifth() -> None:
    def taking(taken: int, known: int) -> str:
        return refusal(Difference(taken=frozenset(uuid4() for _ in range(taken)), known=known))

    assert not taking(5, 5) and not taking(6, 30) and not taking(0, 0)
    assert "6 of 29 people" in taking(6, 29)


def test_sentences_have_a_bound() -> None:
    many = Difference(deeds=tuple(MakeGroup(str(n), "g") for n in range(LINES_MAX + 1)))
    assert len(lines_of(many)) == LINES_MAX
