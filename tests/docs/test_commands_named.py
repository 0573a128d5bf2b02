"""Every command that the code or the documentation names exists, with those arguments."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import COMMANDS

PROJECT = Path(__file__).parents[2]
NAMED = re.compile(
    r"(?:python -m app|scripts/rollcall|`rollcall) ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?"
)
FOLDERS = ("app", "workers", "docs", "scripts")
BEFORE = r"(?:[A-Z_]+=\S+ |docker compose \w+ web |heroku run |sudo -u rollcall |\.venv/bin/)*"
TYPED = re.compile(BEFORE + r"(?:rollcall|python -m app) (.+)$")


def pages() -> Iterator[Path]:
    yield from PROJECT.glob("*.md")
    for folder in FOLDERS:
        for pattern in ("**/*.py", "**/*.md", "**/*.html"):
            yield from (PROJECT / folder).glob(pattern)


@cache
def loaded(name: str) -> Any:
    return COMMANDS[name].load(name)


def exists(name: str, sub: str) -> bool:
    if name not in COMMANDS:
        return False
    return not COMMANDS[name].is_group or not sub or sub in loaded(name).commands


def test_every_command_that_is_named_exists() -> None:
    named = {
        (str(page.relative_to(PROJECT)), *command)
        for page in pages()
        for command in NAMED.findall(page.read_text("utf-8"))
    }

    assert len(named) > 30
    assert [one for one in sorted(named) if not exists(one[1], one[2])] == []


def examples() -> Iterator[str]:
    """The commands that are shown to be typed: in shell blocks, and as examples in `--help`."""
    for page in pages():
        text = page.read_text("utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.splitlines():
                if found := TYPED.match(line):
                    yield found[1]
        for paragraph in re.findall(r"    Examples?: (`rollcall .*?`)\n", text, re.DOTALL):
            for command in re.findall(r"`rollcall ([^`]+)`", paragraph):
                yield " ".join(command.split())


def arguments(example: str) -> list[str]:
    """The words of a command, as the shell makes them, up to a pipe or a file."""
    words = shlex.split(example.replace("*", "shop"), comments=True)
    return list(takewhile(lambda word: word not in {"|", ">"}, words))


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_a_command_that_is_shown_has_these_options_and_arguments(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "shop.toml").touch()
    (tmp_path / "tests" / "golden" / "shop").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    name, *rest = arguments(example)
    command = loaded(name)
    if COMMANDS[name].is_group and rest and rest[0] in command.commands:
        name, *rest = rest
        command = command.commands[name]

    command.make_context(name, rest)
