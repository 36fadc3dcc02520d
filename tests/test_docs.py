"""The documentation says what the code does: what can be compared is compared."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from typer import Typer

from config.settings import settings_table
from farebox.cli import app
from gateway.errors import KINDS
from gateway.metrics import Metrics

_ROOT = Path(__file__).parents[1]
_OPERATIONS = (_ROOT / "docs" / "operations.md").read_text("utf-8")
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
_ROOMS = "farebox|gateway|admin_api|openwebui|accounts|config|policies|ledger|simulation|migrations|bench|tests"
_PATH = re.compile(rf"`((?:{_ROOMS}|docs|deploy|requirements)/[\w./-]+\.\w+)`")


def _pages() -> list[Path]:
    rooms = (_ROOT / room / "README.md" for room in ("admin_api", "ledger", "policies"))
    return [_ROOT / "README.md", _ROOT / "CHANGELOG.md", *rooms, *sorted((_ROOT / "docs").rglob("*.md"))]


def _anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _section(title: str) -> str:
    return _OPERATIONS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_settings_is_the_generated_one() -> None:
    begun = _OPERATIONS.split("<!-- settings")[1]
    shown = begun.split("-->\n", 1)[1].split("<!-- /settings -->")[0]
    assert shown == settings_table(), "print config.settings.settings_table() into docs/operations.md"


def test_every_metric_is_documented_and_none_besides() -> None:
    declared = set(re.findall(rb"^# HELP (\w+)", Metrics().render(), re.MULTILINE))
    documented = set(re.findall(r"`(farebox_\w+)`", _section("Metrics")))
    # A counter brings a second series, with the instant of its creation, that nobody asks for.
    assert documented == {name.decode() for name in declared if not name.endswith(b"_created")}


def test_every_error_code_is_documented_with_its_status() -> None:
    documented: dict[str, int] = {}
    for status, codes in re.findall(r"^\| (\d+) \| ([^|]+) \|", _section("Error codes"), re.MULTILINE):
        documented |= dict.fromkeys(re.findall(r"`(\w+)`", codes), int(status))
    assert documented == {code: kind.status for code, kind in KINDS.items()}


def test_every_dependency_is_explained_and_none_besides() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    names = {re.split(r"[\[<>=~! ]", entry)[0] for entries in lists for entry in entries if isinstance(entry, str)}
    page = (_ROOT / "docs" / "dependencies.md").read_text("utf-8")
    cells = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", " ".join(cells))) == names


def test_what_the_pages_link_to_and_name_is_there() -> None:
    missing = []
    for page in _pages():
        text = page.read_text("utf-8")
        linked = [(page.parent / to if to else page, anchor) for to, anchor in _LINK.findall(text) if "://" not in to]
        named = [(_ROOT / path, "") for path in _PATH.findall(text)]
        missing += [f"{page.name}: {path.name}" for path, _ in (*linked, *named) if not path.exists()]
        missing += [f"{page.name}: #{anchor}" for path, anchor in linked if anchor and anchor not in _anchors(path)]
    assert not missing


def test_every_command_is_in_the_table_of_commands_and_none_besides() -> None:
    told = set[str]()
    for said in re.findall(r"^\| `farebox ([^`]+)`", _section("Commands"), re.MULTILINE):
        words = [word.split("\\|") for word in re.findall(r"(?:^| )([a-z|\\]+)(?= |$)", said)]
        told |= {" ".join(each) for each in product(*words)}
    assert told == set(_commands(app))


def _commands(app: Typer) -> Iterator[str]:
    for each in app.registered_commands:
        if not each.hidden:
            yield each.name or each.callback.__name__  # type: ignore[union-attr]
    for group in app.registered_groups:
        yield from (f"{group.name} {name}" for name in _commands(group.typer_instance))  # type: ignore[arg-type]


def test_decisions_are_numbered_once_and_have_the_three_parts() -> None:
    pages = sorted((_ROOT / "docs" / "adr").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]} "), page.name
        for part in ("\n## Context\n", "\n## Decision\n", "\n## Consequences\n"):
            assert part in text, f"{page.name} has no {part.strip()}"
