"""Every command that the code or the documentation names exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from app.cli.main import COMMANDS

PROJECT = Path(__file__).parents[2]
NAMED = re.compile(r"(?:python -m app|scripts/rollcall) ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
FOLDERS = ("app", "workers", "docs", "scripts")


def pages() -> Iterator[Path]:
    yield from PROJECT.glob("*.md")
    for folder in FOLDERS:
        for pattern in ("**/*.py", "**/*.md", "**/*.html"):
            yield from (PROJECT / folder).glob(pattern)


@cache
def exists(name: str, sub: str) -> bool:
    if name not in COMMANDS:
        return False
    group = COMMANDS[name].load(name) if COMMANDS[name].is_group else None
    return group is None or not sub or sub in group.commands


def test_every_command_that_is_named_exists() -> None:
    named = {
        (str(page.relative_to(PROJECT)), *command)
        for page in pages()
        for command in NAMED.findall(page.read_text("utf-8"))
    }

    assert len(named) > 30
    assert [one for one in sorted(named) if not exists(one[1], one[2])] == []
