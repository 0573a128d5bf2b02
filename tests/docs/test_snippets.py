"""The blocks of the documentation are read as the product reads them."""

import ast
import importlib
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core import config
from app.orgs import webhook_signature
from app.sources.recipes.load import load
from tests.own_tables import forgotten_afterwards
from workers import discovery, registry

ROOT = Path(__file__).parents[2]
OURS = ("app", "workers", "scripts")
OTHERS = {"PGOPTIONS"}  # settings of other programs
PLACEHOLDER = re.compile("[$<…'(]")
EVENT = "BEGIN:VEVENT\nUID:1\nDTSTART;VALUE=DATE:20261224\nEND:VEVENT\n"
CALENDAR = f"BEGIN:VCALENDAR\nVERSION:2.0\n{EVENT}END:VCALENDAR\n"
RECIPE = """
name = "shop"
kind = "json"
url = "https://shop.example/{each}"
[request]
each = ["a", "b"]
[extract.fields]
id = "id"
[store]
key = "id"
"""


def blocks(*kinds: str) -> list[Any]:
    """Every block of these kinds in the Markdown, named by its file and line."""
    return list(_blocks(kinds))


def _blocks(kinds: tuple[str, ...]) -> Iterator[Any]:
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        text = page.read_text("utf-8")
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            if found[1] in kinds:
                line = text.count("\n", 0, found.start()) + 2
                yield pytest.param(found[2], id=f"{page.name}:{line}")


@pytest.mark.parametrize("text", blocks("python"))
def test_what_a_block_of_python_imports_from_here_exists(text: str) -> None:
    tree = compile(text, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    imports = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and one.module]
    for one in imports:
        if (one.module or "").partition(".")[0] in OURS:
            module = importlib.import_module(one.module or "")
            assert [name.name for name in one.names if not hasattr(module, name.name)] == []


DECLARATIONS = [
    one for one in blocks("python") if re.search(r"^@(job|source)\(", one.values[0], re.MULTILINE)
]


@pytest.mark.parametrize("text", DECLARATIONS)
def test_each_block_with_a_job_is_one_that_a_worker_finds(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "shown_jobs"
    folder.mkdir()
    (folder / "shown.py").write_text(text, "utf-8")

    with forgotten_afterwards():
        found = discovery.discover(config.Config(jobs=(str(folder),)), ())

    sys.modules.pop("shown_jobs.shown", None)
    assert (len(found.jobs), found.faults) == (1, ())


@pytest.mark.parametrize("text", blocks("toml", "text"))
def test_each_block_of_toml_is_a_recipe_a_part_of_one_or_of_a_package(text: str) -> None:
    read = tomllib.loads(text)

    if "project" in read:
        assert list(read["project"]["entry-points"]) == [discovery.ENTRY_POINTS]
    else:
        assert load(text if "name" in read else RECIPE + text).name


@pytest.mark.parametrize("text", blocks("json"))
def test_each_block_of_json_is_json(text: str) -> None:
    json.loads("[" + text.replace("}\n{", "},{") + "]")


@pytest.mark.parametrize("text", blocks("sh"))
def test_a_shell_can_read_each_block(text: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-n"], input=text, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""


def settings() -> Iterator[Any]:
    """Each block of a shell with settings, and what it sets."""
    for one in blocks("sh"):
        found = re.findall(r"\b([A-Z][A-Z_]+)=(\"[^\"]*\"|[^\s\"]+)", one.values[0])
        known = {name: value.strip('"') for name, value in found if not PLACEHOLDER.search(value)}
        for name in OTHERS & known.keys():
            del known[name]
        if known:
            yield pytest.param(known, id=str(one.id))


@pytest.mark.parametrize("shown", list(settings()))
def test_each_setting_that_is_shown_is_one_and_valid(
    shown: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holidays.ics").write_text(CALENDAR)
    monkeypatch.chdir(tmp_path)
    known = {name.upper() for name in config.Config.model_fields}
    for name, value in shown.items():
        monkeypatch.setenv(name, value)

    declared = registry.declared_schedules(config.load())

    assert declared
    assert set(shown) - known == set()


def test_a_receiver_that_checks_as_the_page_says_takes_what_is_signed_and_nothing_else() -> None:
    page = (ROOT / "docs" / "collections.md").read_text("utf-8")
    code = re.search(
        r"^```python\n((?:(?!```).)*def is_genuine.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 - of our own page
    genuine, secret, body = names["is_genuine"], webhook_signature.new_secret(), b'{"type": "test"}'

    def headers(at: float, key: str = secret) -> dict[str, str]:
        signature = webhook_signature.sign(key, "msg_1", str(int(at)), body)
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(at)),
            "webhook-signature": f"v1,old {signature}",
        }

    now = time.time()
    assert genuine(secret, headers(now), body)
    assert not genuine(secret, headers(now), body + b" ")
    assert not genuine(secret, headers(now, webhook_signature.new_secret()), body)
    assert not genuine(secret, headers(now - 600), body)
