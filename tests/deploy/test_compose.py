"""The Docker Compose file, as far as it can be checked without a Docker engine: what it names is there."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from config.catalog_file import read_catalog
from config.settings import settings_table
from config.toml_file import read_toml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (DEPLOY / ".env.example").read_text("utf-8")

_REFERENCE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
_SECRET = re.compile(r"PASSWORD|SECRET|PEPPER|ADMIN_KEY|API_KEY")
_BY_HAND = {"OPENWEBUI_ADMIN_KEY", "OPENAI_API_KEY"}


def references() -> list[tuple[str, str, str]]:
    """Each variable the file asks for: its name, how (``?`` required, ``-`` with a default), and the rest."""
    return _REFERENCE.findall((DEPLOY / "compose.yaml").read_text("utf-8"))


def offered() -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", EXAMPLE, re.MULTILINE))


def made() -> dict[str, str]:
    """What the generator writes."""
    printed = subprocess.run([DEPLOY / "make-env"], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", printed, re.MULTILINE))


def test_there_are_the_four_and_each_says_when_it_is_well() -> None:
    assert set(SERVICES) == {"open-webui", "farebox", "postgres", "redis"}
    assert all(service["healthcheck"]["test"] for service in SERVICES.values())


def test_every_image_is_pinned_by_a_version() -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    assert all(re.match(r"v?\d+\.\d+", tag) for tag in tags.values()), tags
    assert tags["open-webui"] == "v0.12.4"


@pytest.mark.parametrize("name", SERVICES)
def test_who_waits_for_somebody_waits_for_a_service_that_is_well(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES and how == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_and_files_are_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.partition(":")[0]
        assert (DEPLOY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume


def test_ports_and_hosts_are_those_of_the_services() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    known = {("postgres", "5432"), ("redis", "6379"), ("open-webui", "8080")}
    known |= {("localhost", "8080"), ("localhost", "3000")}
    assert set(re.findall(r"(?:@|//)([a-z-]+):(\d+)", text)) == known
    assert {service["ports"][0].rpartition(":")[2] for service in SERVICES.values() if "ports" in service} == {"8080"}


def test_no_secret_has_a_default_or_stands_in_the_file() -> None:
    for name, how, rest in references():
        if _SECRET.search(name) and name not in _BY_HAND:
            assert how == "?", name
        elif name in _BY_HAND:
            assert (how, rest) == ("-", ""), name
    filled = {name for name, value in re.findall(r"^([A-Z_]+)=(.+)$", EXAMPLE, re.MULTILINE)}
    assert not {name for name in filled if _SECRET.search(name)}


def test_every_variable_is_in_the_example_and_none_besides() -> None:
    asked = {name for name, how, _ in references()}
    required = {name for name, how, _ in references() if how == "?"}
    assert offered() <= asked and required <= offered()


def test_the_settings_of_farebox_exist() -> None:
    known = set(re.findall(r"`(FAREBOX_\w+)`", settings_table())) | {"FAREBOX_CONFIG"}
    named = {name for name in SERVICES["farebox"]["environment"] if name.startswith("FAREBOX_")}
    assert named <= known and "FAREBOX_OPENWEBUI__JWT_SECRET" in named


def test_both_sides_have_the_same_secret_for_users() -> None:
    theirs = SERVICES["open-webui"]["environment"]["FORWARD_USER_INFO_HEADER_JWT_SECRET"]
    assert theirs == SERVICES["farebox"]["environment"]["FAREBOX_OPENWEBUI__JWT_SECRET"]


def test_the_generator_fills_in_every_secret_with_another() -> None:
    first, second = made(), made()
    filled = {name: value for name, value in first.items() if _SECRET.search(name) and name not in _BY_HAND}
    assert first.keys() == offered() and len(set(filled.values())) == len(filled) == 7
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in filled.values())
    assert all(first[name] != second[name] for name in filled)
    assert {first[name] for name in _BY_HAND} == {""}


@pytest.mark.parametrize("name", ["make-env", "databases.sh"])
def test_scripts_can_be_run_and_are_understood(name: str) -> None:
    assert os.stat(DEPLOY / name).st_mode & stat.S_IXUSR
    subprocess.run(["sh", "-n", DEPLOY / name], check=True)


def test_the_catalogue_is_understood_and_its_keys_reach_farebox() -> None:
    declared = read_catalog(read_toml(DEPLOY / "farebox.toml"), default_tier="free")
    assert declared.models and set(declared.rates) == {model.id for model in declared.models}
    assert {each.api_key_env for each in declared.upstreams} <= SERVICES["farebox"]["environment"].keys()


def test_what_the_image_is_built_from_is_let_into_the_build() -> None:
    allowed = set(re.findall(r"^!(\w+)/$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= allowed
