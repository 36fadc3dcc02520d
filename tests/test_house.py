"""The house itself: its stairs go down, what calls itself pure is, every file has its test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

import msgspec
import pytest

from gateway.errors import KINDS, Refusal, render_event, render_reply

HOUSE = Path(__file__).parents[1]

MAY_IMPORT = {
    "ledger": set[str](),
    "policies": {"ledger"},
    "config": {"policies", "ledger"},
    "accounts": {"config", "policies", "ledger"},
    "openwebui": {"accounts", "config", "policies", "ledger"},
    "gateway": {"openwebui", "accounts", "config", "policies", "ledger"},
    "admin_api": {"openwebui", "accounts", "config", "policies", "ledger"},
    "simulation": {"gateway", "accounts", "config", "policies", "ledger"},
    "farebox": {
        "simulation",
        "gateway",
        "admin_api",
        "openwebui",
        "accounts",
        "config",
        "policies",
        "ledger",
        "migrations",
    },
    "migrations": set[str](),
}
"""The stairs. A room stands above those it may import; the gateway and the admin API stand side by side."""

OUTSIDE = {"httpx", "aiohttp", "redis", "sqlalchemy", "asyncpg", "starlette", "uvicorn", "alembic"}
"""What reaches out of the process; a pure file has none of it, nor has anything it imports."""

VALUES = {"asyncpg.pgproto.pgproto"}
"""Kinds of values that come with what reaches out, and do not reach out themselves."""

IMPURE = {"asyncio", "logging", "os", "pathlib", "random", "socket", "subprocess", "tempfile", "threading", "time"}
"""What a pure file itself does not import: clock, environment, files, chance."""

TESTED_ELSEWHERE = {
    "farebox/__main__.py": "three lines; tests/stories/test_settings.py runs the house through it",
    "migrations/env.py": "what Alembic runs; tests/farebox/test_migrate.py runs every step up and down",
}
"""Files without a test file of their own, each with the reason."""


def sources(*rooms: str) -> list[Path]:
    return sorted(file for room in rooms for file in (HOUSE / room).rglob("*.py") if "__pycache__" not in file.parts)


ROOMS = [room for room in MAY_IMPORT if (HOUSE / room).is_dir()]
CODE = sources(*ROOMS)
MODULES = [file for file in CODE if file.name != "__init__.py" and "versions" not in file.parts]


def named(file: Path) -> str:
    return file.relative_to(HOUSE).as_posix()


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def imports(file: Path, *, at_run_time: bool = False) -> frozenset[str]:
    """The dotted names a file imports, anywhere in it; ``at_run_time``: without those only a type checker reads."""
    return frozenset(_imports(parsed(file), at_run_time))


def _imports(node: ast.AST, at_run_time: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if at_run_time and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imports(child, at_run_time)


def first(name: str) -> str:
    return name.partition(".")[0]


def home(name: str) -> Path | None:
    """The file of ours in which an imported name lives."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        file = HOUSE.joinpath(*parts[:end]).with_suffix(".py")
        if parts[0] in ROOMS and file.is_file():
            return file
    return None


def reach(file: Path) -> set[Path]:
    """The files of ours that come with this one."""
    found, waiting = set[Path](), [file]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [there for name in imports(each, at_run_time=True) if (there := home(name)) is not None]
    return found


def is_pure(file: Path) -> bool:
    return re.search(r"\bPure\b", ast.get_docstring(parsed(file)) or "") is not None


PURE = [file for file in MODULES if is_pure(file)]


# The rooms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_the_stairs_only(room: str) -> None:
    up = {
        f"{named(file)} imports {name}"
        for file in sources(room)
        for name in imports(file)
        if first(name) in MAY_IMPORT and first(name) != room and first(name) not in MAY_IMPORT[room]
    }
    assert not up


def test_no_room_imports_the_tests_or_a_neighbour_by_a_relative_name() -> None:
    wrong = {named(file) for file in CODE for name in imports(file) if first(name) in ("tests", "None")}
    assert not wrong


def test_every_folder_with_code_is_a_room_that_has_its_place_on_the_stairs() -> None:
    folders = {file.parent.name for file in HOUSE.glob("*/__init__.py")}
    assert folders <= MAY_IMPORT.keys() | {"tests", "bench"}


@pytest.mark.parametrize("file", PURE, ids=named)
def test_what_calls_itself_pure_reaches_nothing_outside(file: Path) -> None:
    assert not {
        f"{named(each)} imports {name}"
        for each in reach(file)
        for name in imports(each) - VALUES
        if first(name) in OUTSIDE
    }
    assert not {name for name in imports(file, at_run_time=True) if first(name) in IMPURE}
    assert not clock_readings(file)


def clock_readings(file: Path) -> list[str]:
    """Calls like ``datetime.now(…)``."""
    calls = [node.func for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if isinstance(call, ast.Attribute) and call.attr in _CLOCKS]


_CLOCKS = ("now", "utcnow", "today", "monotonic", "monotonic_ns", "perf_counter", "time_ns")


def test_the_money_and_the_rules_have_pure_cores() -> None:
    """The rule above would hold for no file at all."""
    pure = {named(file) for file in PURE}
    assert {"ledger/price.py", "ledger/hold.py", "ledger/wallet.py", "ledger/period.py", "ledger/money.py"} <= pure
    assert {"policies/entitlement.py", "gateway/meter.py", "gateway/bill.py", "gateway/call.py"} <= pure


def test_one_file_alone_knows_the_http_client() -> None:
    assert {named(file) for file in sources("gateway") for name in imports(file) if first(name) == "httpx"} == {
        "gateway/http.py"
    }


def test_importing_a_file_does_nothing() -> None:
    """At the top of a file stand names; a bare call there would be work done at import. The door of the command is for
    that, and Alembic's."""
    doors = {"farebox/__main__.py", "migrations/env.py"}
    work = {
        f"{named(file)}:{node.lineno}"
        for file in CODE
        if named(file) not in doors
        for node in parsed(file).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not is_wiring(node.value)
    }
    assert not work


def is_wiring(call: ast.Call) -> bool:
    """Sub-commands are put together at the top of the command line's file."""
    return ast.unparse(call.func).endswith((".add_typer", ".add_command"))


# The words ----------------------------------------------------------------------------------------------------------


def test_every_file_says_what_it_is() -> None:
    tests = [file for file in sources("tests") if file.name != "__init__.py"]
    assert not [named(file) for file in CODE + tests if not ast.get_docstring(parsed(file))]


def test_every_module_has_its_test() -> None:
    missing = {
        named(file)
        for file in MODULES
        if named(file) not in TESTED_ELSEWHERE and not (HOUSE / "tests" / mirror(file)).is_file()
    }
    assert not missing


def mirror(file: Path) -> Path:
    relative = file.relative_to(HOUSE)
    return relative.with_name(f"test_{relative.name}")


def test_no_exception_outlives_its_file() -> None:
    assert all((HOUSE / name).is_file() for name in TESTED_ELSEWHERE)


def test_what_is_logged_is_a_short_phrase_and_values_beside_it() -> None:
    """Whoever reads logs looks for the phrase; values within would make each line another event."""
    calls = [(file, node) for file in CODE for node in ast.walk(parsed(file)) if is_logging(node)]
    assert len(calls) > 40
    phrase = re.compile(r"[a-z][a-z ,']{4,60}")
    wrong = {
        f"{named(file)}:{call.lineno}"
        for file, call in calls
        if not isinstance(said := call.args[0], ast.Constant)
        or not phrase.fullmatch(str(said.value))
        or len(call.args) > 1
        or {word.arg for word in call.keywords} - {"extra", "exc_info"}
    }
    assert not wrong


def is_logging(node: ast.AST) -> TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return ast.unparse(node.func.value) == "_log"


def test_there_are_no_unfinished_places() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    assert not [f"{named(file)}:{at}" for file, at, line in lines() if file.suffix == ".py" and marks.search(line)]


def test_no_line_names_a_registry_or_a_place_on_a_machine() -> None:
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", "arti" + "factory", "proxy" + r"\.golang"))
    paths = "|".join(("/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/\w", "/Us" + r"ers/\w"))
    named_here = re.compile(f"({hosts})|(?<![\\w.])({paths})")
    assert not [f"{named(file)}:{at}: {line.strip()}" for file, at, line in lines() if named_here.search(line)]


_READ = {".py", ".toml", ".md", ".txt", ".sql", ".lua", ".cfg", ".yml", ".yaml", ".json", ".html", ".css", ".js", ""}
_NOT_OURS = {".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__"}
_NOT_OURS |= {"node_modules", "farebox-data", "dist", ".venv-realmodel", ".venv-audit", ".bench-peers"}


def lines() -> Iterator[tuple[Path, int, str]]:
    """Every line of every text of the tree."""
    for file in texts(HOUSE):
        for at, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
            yield file, at, line


def texts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in _NOT_OURS and not path.is_symlink():
                yield from texts(path)
        elif path.suffix in _READ and path.stat().st_size < 2_000_000:
            yield path


# What callers are told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", KINDS)
def test_every_code_renders_before_and_after_the_first_byte(code: str) -> None:
    refusal = Refusal.of(code, "A sentence.", retry_after_s=3, tier="free", upgrade_url=None)
    status, headers, body = render_reply(refusal, "id-1")
    event, done, rest = render_event(refusal, "id-1").split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    error = msgspec.json.decode(body)["error"]
    assert msgspec.json.decode(event.removeprefix(b"data: ")) == {"error": error}
    assert (error["code"], error["type"], error["message"]) == (code, KINDS[code].type, "A sentence.")
    assert error["farebox"] == {"retry_after_s": 3, "tier": "free", "request_id": "id-1"}
    assert status == KINDS[code].status and 400 <= status < 600
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
