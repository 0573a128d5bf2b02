"""What a process imports when it starts: the rest is imported where it is used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

from app.cli.main import COMMANDS

PROJECT = Path(__file__).parents[2]
HEAVY = (
    "alembic", "app.authoring", "apprise", "cryptography.hazmat", "feedparser", "jwt.api_jwt",
    "lxml", "parsel", "sqlalchemy", "sqlmodel",
)  # fmt: skip
FORMATTING = ("rich.console", "rich.text")
OF_SERVERS = ("aiohttp", "arq", "asyncpg", "httpx", "pydantic", "redis", "rich", "structlog")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("app.workers", HEAVY),
        ("app.web", ("alembic", "app.authoring.dry_run", "app.authoring.trial", "apprise")),
        ("workers.decider", (*HEAVY, "aiohttp", "httpx")),
        ("app.cli.main", (*HEAVY, *OF_SERVERS, *FORMATTING, "importlib.resources")),
        ("app.cli.status", (*HEAVY, *FORMATTING, "aiohttp", "httpx")),
    ],
)
def test_a_process_imports_only_what_it_starts_with(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[n for n in {absent!r} if n in sys.modules])"
    servers = {"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x"}

    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=servers,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_pyjwt_works_when_it_is_used() -> None:
    code = "import app, redis.auth.token as t, jwt; print(t.jwt.decode == jwt.decode)"

    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_a_command_is_what_its_own_help_begins_with(name: str) -> None:
    loaded = COMMANDS[name].load(name)

    first = " ".join((loaded.help or "").split("\n\n")[0].split())

    assert COMMANDS[name].help == first
    assert loaded.name == name


def test_every_command_is_listed() -> None:
    places = {one.place.partition(":")[0] for one in COMMANDS.values() if not one.is_group}
    found = {
        name for place in places for name in typer.main.get_group(import_module(place).app).commands
    }

    with_typer = {
        f"app.cli.{path.stem}"
        for path in (PROJECT / "app" / "cli").glob("*.py")
        if "typer.Typer(" in path.read_text("utf-8")
    }

    assert found == {name for name, one in COMMANDS.items() if not one.is_group}
    assert with_typer - {"app.cli.main"} == {
        one.place.partition(":")[0] for one in COMMANDS.values()
    }
