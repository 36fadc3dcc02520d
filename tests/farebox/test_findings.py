"""What the doctor finds, as lines for people and as a document for machines."""

from __future__ import annotations

from farebox.findings import Found, document, lines, worst

OK = Found("redis", "reachable", "ok", "Valkey 9")
NOTE = Found("file", "tier", "note", "is not in the file")
WARNING = Found("catalogue", "model m", "warning", "has no price")
ERROR = Found("database", "role", "error", "cannot be written")


def test_the_gravest_verdict_decides() -> None:
    assert worst([]) == worst([OK]) == "ok"
    assert worst([OK, NOTE]) == "note"
    assert worst([WARNING, OK]) == "warning"
    assert worst([WARNING, ERROR, NOTE]) == "error"


def test_each_has_its_line_and_the_last_one_counts() -> None:
    printed = list(lines([OK, NOTE, WARNING, ERROR, ERROR]))
    assert printed[0].split() == ["ok", "redis", "reachable", "Valkey", "9"]
    assert printed[2].startswith("WARNING  catalogue") and printed[3].startswith("ERROR    database")
    assert printed[-1] == "2 errors and 1 warning in 5 things looked at"


def test_machines_get_all_of_it() -> None:
    assert document([OK, WARNING]) == {
        "verdict": "warning",
        "found": [
            {"area": "redis", "subject": "reachable", "verdict": "ok", "says": "Valkey 9"},
            {"area": "catalogue", "subject": "model m", "verdict": "warning", "says": "has no price"},
        ],
    }
