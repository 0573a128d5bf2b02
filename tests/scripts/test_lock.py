"""The locks: nothing but versions and hashes, and enough for what pyproject.toml asks."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>\S+)(?: ; (?P<marker>.+))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _locked(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text().splitlines()
    pins = [pin for pin in map(LINE.fullmatch, lines) if pin]
    return {pin["name"]: Version(pin["version"]) for pin in pins}


def _wanted(name: str) -> list[str]:
    project = _project()
    wanted = list(project["project"]["dependencies"])
    if name == "requirements-dev.txt":
        wanted += project["project"]["optional-dependencies"]["embedded"]
        wanted += project["dependency-groups"]["dev"]
    return wanted


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_holds_nothing_but_versions_and_hashes(name: str) -> None:
    odd = [
        line
        for line in (ROOT / name).read_text().splitlines()
        if not (LINE.fullmatch(line) or HASH.fullmatch(line))
    ]

    assert odd == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_satisfies_what_the_project_asks(name: str) -> None:
    locked = _locked(name)
    missing = [
        wanted
        for wanted in map(Requirement, _wanted(name))
        if not wanted.specifier.contains(
            locked.get(canonicalize_name(wanted.name), Version("0")), prereleases=True
        )
        or canonicalize_name(wanted.name) not in locked
    ]

    assert missing == []


def test_production_runs_what_was_tested() -> None:
    production, tested = _locked("requirements.txt"), _locked("requirements-dev.txt")

    assert {name: tested.get(name) for name in production} == production
