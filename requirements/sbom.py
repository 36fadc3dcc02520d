"""A software bill of materials of one lock, in CycloneDX's JSON: `python requirements/sbom.py > sbom.json`.

Names, versions and hashes are the lock's; licences are what the installed packages say of themselves, where they are
installed. The same lock in the same environment gives the same bytes: there is no date in it, and no chance.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent
_LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_CLASSIFIER = "License :: OSI Approved :: "


class Locked(NamedTuple):
    """One line of a lock. ``marker``: where it is installed; empty: everywhere."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def locked(text: str) -> Iterator[Locked]:
    """What a lock names, in its order."""
    for entry in text.replace("\\\n", " ").splitlines():
        if found := _LOCKED.match(entry):
            marker = (found["marker"] or "").partition("--hash")[0].strip()
            yield Locked(found["name"], found["version"], marker, tuple(_HASH.findall(entry)))


def licence(name: str, version: str) -> dict[str, Any] | None:
    """What the installed package says of its licence; None where this version is not installed, or silent."""
    try:
        told = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    if told.version != version:
        return None
    if expression := told.metadata["License-Expression"]:
        return {"expression": expression}
    named = [
        each.removeprefix(_CLASSIFIER) for each in told.metadata.get_all("Classifier") or () if _CLASSIFIER in each
    ]
    free = (told.metadata["License"] or "").strip()
    text = named[0] if named else free if "\n" not in free else ""
    return {"license": {"name": text}} if text else None


def component(package: Locked) -> dict[str, Any]:
    """A package as CycloneDX has it, with a hash for each of its files: which one is used, the machine says."""
    told = licence(package.name, package.version)
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{package.name}@{package.version}",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:pypi/{package.name}@{package.version}",
        **({"licenses": [told]} if told else {}),
        **({"properties": [{"name": "farebox:marker", "value": package.marker}]} if package.marker else {}),
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"pkg:pypi/{package.name}@{package.version}",
                "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(package.hashes)],
            }
        ],
    }


def bill(lock: str, project: dict[str, Any]) -> dict[str, Any]:
    """The whole document."""
    components = [component(each) for each in sorted(locked(lock))]
    name, version = project["name"], project["version"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/{name}@{version}",
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
    }


def main() -> None:
    """Print the bill of the runtime's lock, or of the file that is named."""
    lock = Path(sys.argv[1]) if len(sys.argv) > 1 else _HERE / "runtime.txt"
    project = tomllib.loads((_HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    print(json.dumps(bill(lock.read_text("utf-8"), project), indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
