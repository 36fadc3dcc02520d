"""What Farebox stands on: pinned to hashes, and told in a bill of materials that is the same each time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from requirements.sbom import bill, licence, locked

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
RUNTIME = ROOT / "requirements" / "runtime.txt"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_every_lock_is_pinned_to_hashes(lock: Path) -> None:
    text = lock.read_text("utf-8")
    packages = list(locked(text))
    assert len(packages) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) > 0
    assert all(package.hashes for package in packages)


def test_an_install_takes_nothing_that_is_not_pinned() -> None:
    makefile, dockerfile = ((ROOT / name).read_text("utf-8") for name in ("Makefile", "Dockerfile"))
    for text in (makefile, dockerfile):
        for line in text.replace("\\\n", " ").splitlines():
            if "-r requirements/" in line and "install" in line.lower():
                assert "--require-hashes" in line
    assert "--require-hashes" in makefile and "--require-hashes" in dockerfile


def test_the_bill_of_materials_has_every_package_with_version_and_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    document = bill(RUNTIME.read_text("utf-8"), project)
    told = {each["name"]: each for each in document["components"]}
    for package in locked(RUNTIME.read_text("utf-8")):
        entry = told[package.name]
        assert entry["version"] == package.version
        assert {each["content"] for each in entry["externalReferences"][0]["hashes"]} == set(package.hashes)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "farebox"


def test_licences_are_told_where_they_are_known() -> None:
    packages = list(locked(RUNTIME.read_text("utf-8")))
    assert sum(licence(each.name, each.version) is not None for each in packages) > len(packages) * 0.8
    assert licence("no-such-package", "1.0") is None


def test_the_bill_is_the_same_each_time() -> None:
    program = [sys.executable, str(ROOT / "requirements" / "sbom.py")]
    once, again = (subprocess.run(program, capture_output=True, check=True, cwd="/").stdout for _ in range(2))
    assert once == again and json.loads(once)["components"]
