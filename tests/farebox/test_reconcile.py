"""A vendor's figures and ours side by side: what differs is named, what one side lacks is shown."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farebox.cli import app
from farebox.reconcile import Comparison, compare, read_file, tolerance_of
from farebox.vendor_usage import VendorUsageError, read_vendor_usage
from ledger.reconcile import Used
from tests.backend import Backend
from tests.house import Farebox
from tests.process import environment

DAY = date(2026, 11, 20)
NAMES = {"ours": "gpt-4o", "twin": "gpt-4o"}


def ours(amount: int, kind: str = "input", model: str = "ours") -> Used:
    return Used(DAY, model, "openai", kind, amount)


def against(told: list[Used], *rows: str) -> Comparison:
    lines = ["day,model,kind,amount\n", *(f"2026-11-20,{row}\n" for row in rows)]
    return compare(read_vendor_usage(lines), told, NAMES, Decimal("0.01"))


def test_sums_of_the_vendor_are_compared_with_the_sum_of_our_parts() -> None:
    told = [ours(60), ours(30, "cache_read"), ours(10, model="twin"), ours(7, "output"), ours(3, "reasoning")]
    found = against(told, "gpt-4o,input_tokens,100", "gpt-4o,cached_tokens,30", "gpt-4o,output_tokens,10")
    assert [(line.measure, line.vendor, line.ledger) for line in found.lines] == [
        ("input_tokens", Decimal(100), 100),
        ("cached_tokens", Decimal(30), 30),
        ("output_tokens", Decimal(10), 10),
    ]
    assert found.agrees and found.notes == ()


@pytest.mark.parametrize(("vendor", "agrees"), [(100, True), (101, True), (102, False), (99, False), (0, False)])
def test_a_difference_above_the_tolerance_is_named(vendor: int, agrees: bool) -> None:
    found = against([ours(100)], f"gpt-4o,input,{vendor}")
    assert found.agrees is agrees
    assert ("DIFFERS" in "\n".join(found.text())) is not agrees


def test_a_side_that_has_nothing_is_shown_and_differs() -> None:
    found = against([ours(100), ours(4, "output")], "stranger,input,5")
    assert [(line.model, line.vendor, line.ledger) for line in found.lines] == [
        ("gpt-4o", None, 100),
        ("stranger", 5, None),
    ]
    assert not found.agrees
    assert found.notes == (
        "models of the file that are neither in the catalogue nor in the ledger: stranger",
        "kinds of the ledger of which the file says nothing: output",
    )
    assert "–" in list(found.text())[1]


def test_a_dated_name_is_taken_for_the_model_asked_for() -> None:
    found = against([ours(100)], "gpt-4o-2024-08-06,input,60", "gpt-4o,input,40")
    assert found.agrees and len(found.lines) == 1
    assert found.notes == ("gpt-4o-2024-08-06 of the file is taken for gpt-4o",)


def test_a_model_that_left_the_catalogue_is_compared_by_its_id() -> None:
    assert against([ours(100, model="old")], "old,input,100").agrees


@pytest.mark.parametrize(("text", "part"), [("1%", "0.01"), ("0.5 %", "0.005"), ("0", "0")])
def test_a_tolerance_is_a_part_in_percent(text: str, part: str) -> None:
    assert tolerance_of(text) == Decimal(part)


@pytest.mark.parametrize("text", ["-1%", "much", "101%", "NaN"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 0% to 100%"):
        tolerance_of(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"day,model,kind,amount\n\xff")
    for name in ("latin.csv", "none.csv"):
        with pytest.raises(VendorUsageError, match=name):
            read_file(tmp_path / name)


async def test_the_command_agrees_with_what_was_charged_and_differs_where_it_was_not(
    farebox: Farebox, data_dir: Path, database_url: str, redis_url: str, backend: Backend, tmp_path: Path
) -> None:
    env = environment(data_dir, database_url, redis_url, backend.url)
    values = {name: value for name, value in env.items() if name.startswith("FAREBOX_")}

    async def run(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=values)
        return done.exit_code, done.output

    _, made = await run("user", "create", "Ada", "--tier", "paid", "--credit", "5.00")
    key = next(line.split()[1] for line in made.splitlines() if line.startswith("key "))
    before = datetime.now(UTC).date()
    assert (await farebox.chat({"authorization": f"Bearer {key}"})).status == 200
    await farebox.settled()
    file = tmp_path / "export.csv"
    empty = "".join(f"{day},none,total_tokens,0\n" for day in {before, datetime.now(UTC).date()})
    file.write_text(f"day,model,kind,amount\n{empty}")
    code, said = await run("reconcile", str(file))
    assert code == 1 and "total_tokens" in said, said
    day, model, measure, _, amount, *_ = next(line for line in said.splitlines() if "DIFFERS" in line).split()
    file.write_text(f"day,model,kind,amount\n{day},{model},{measure},{amount}\n")
    assert (await run("reconcile", str(file)))[0] == 0
    file.write_text(f"day,model,kind,amount\n{day},{model},{measure},{int(amount) * 2}\n")
    assert (await run("reconcile", str(file)))[0] == 1
    assert (await run("reconcile", str(file), "--tolerance", "50%"))[0] == 0
    assert (await run("reconcile", str(file), "--tolerance", "most"))[0] == 2
    assert (await run("reconcile", str(file), "--upstream", "nobody"))[0] == 1
