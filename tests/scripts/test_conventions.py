"""The checks of names, licences and documented dependencies find violations."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts.conventions import repeated_classes, unclear_names
from scripts.licences import violation

ROOT = Path(__file__).parents[2]


def written(folder: Path, **sources: str) -> list[Path]:
    files: list[Path] = []
    for name, source in sources.items():
        files.append(folder / f"{name}.py")
        files[-1].write_text(source)
    return files


def test_two_public_classes_of_one_name_are_found(tmp_path: Path) -> None:
    files = written(tmp_path, a="class Page: ...", b="class Page: ...", c="class Other: ...")

    (line,) = repeated_classes(files)

    assert "class Page" in line
    assert "a.py" in line
    assert "b.py" in line


def test_private_and_nested_classes_may_share_a_name(tmp_path: Path) -> None:
    source = "class _Page: ...\nclass {}:\n    class Inner: ..."

    files = written(tmp_path, a=source.format("A"), b=source.format("B"))

    assert list(repeated_classes(files)) == []


@pytest.mark.parametrize(
    "source",
    [
        "def tell(): ...",
        "async def tell_all(): ...",
        "told = 1",
        "def f(told_by): ...",
        "class Tell: ...",
    ],
)
def test_what_is_called_tell_or_told_is_found(tmp_path: Path, source: str) -> None:
    assert len(list(unclear_names(written(tmp_path, a=source)))) == 1


def test_columns_and_longer_words_keep_their_names(tmp_path: Path) -> None:
    files = written(tmp_path, a="told_at = 1\nintelligent = 2\nretold = 3")

    assert list(unclear_names(files)) == []


@pytest.mark.parametrize(
    "licence",
    ["MIT", "Apache-2.0 AND BSD-2-Clause", "MPL-2.0", "LGPL-3.0", "MIT OR GPL-2.0", "PSF-2.0"],
)
def test_permissive_and_weak_copyleft_licences_are_allowed(licence: str) -> None:
    assert violation("some", licence) is None


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "GPL-3.0",
        "AGPL-3.0",
        "MIT AND GPL-2.0",
        "MIT AND Proprietary",
        "SSPL-1.0",
        "Proprietary",
    ],
)
def test_other_licences_and_none_are_refused(licence: str) -> None:
    assert violation("some", licence) is not None


def test_every_dependency_has_its_reason_in_decision_0007() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    groups = (project["project"]["dependencies"], *extras, project["dependency-groups"]["dev"])
    wanted = {Requirement(line).name for group in groups for line in group}

    text = (ROOT / "docs/decisions/0007-dependencies.md").read_text()
    decision = text.partition("## Decision")[2].partition("## Consequences")[0]
    reasons = re.findall(r"^- ([^:]+): \S", decision, re.MULTILINE)
    documented = {name.strip() for names in reasons for name in names.split(",")}

    assert documented == wanted
