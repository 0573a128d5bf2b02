"""What a process imports when it starts: the rest is imported where it is used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

from app.cli.main import COMMANDS
from tests.fresh_process import printed_by

PROJECT = Path(__file__).parents[2]
HEAVY = (
    "alembic", "app.authoring.dry_run", "app.authoring.trial", "apprise", "cryptography.hazmat",
    "feedparser", "jwt.api_jwt", "lxml", "parsel", "sqlalchemy", "sqlmodel",
)  # fmt: skip
OF_PAGES = ("app.models", "app.web.api.table", "app.web.dashboard.views", "workers.registry")
LIGHT_PAGES = ("alembic", "app.authoring.dry_run", "app.authoring.trial", "apprise")
FORMATTING = ("rich.console", "rich.text")
# Executed only for its documentation: nothing of what a command does, nor the validation of typer.
NOT_FOR_HELP = frozenset({
    "aiohttp", "alembic", "apprise", "arq", "asyncio", "asyncpg", "httpx", "lxml", "msgspec",
    "pydantic", "pydantic_settings", "redis", "rich", "sqlalchemy", "sqlmodel", "structlog",
})  # fmt: skip
DECLARATIONS = ("app.core.", "app.orgs.limits")  # enumerations, and the names of limits
OF_SERVERS = ("aiohttp", "arq", "asyncpg", "httpx", "pydantic", "redis", "rich", "structlog")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("app.workers.settings", (*HEAVY, *FORMATTING, "greenlet")),
        ("app.web.application", (*OF_PAGES, *HEAVY, *FORMATTING, "aiohttp", "greenlet", "httpx")),
        ("app.web.page_and_api_routes", (*LIGHT_PAGES, *FORMATTING)),
        ("workers.decider", (*HEAVY, "aiohttp", "greenlet", "httpx")),
        ("app.cli.main", (*HEAVY, *OF_SERVERS, *FORMATTING, "importlib.resources")),
        ("app.cli.status", (*HEAVY, *FORMATTING, "aiohttp", "httpx")),
    ],
)
def test_a_process_imports_only_what_it_starts_with(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[n for n in {absent!r} if n in sys.modules])"

    assert printed_by(code).split() == []


def test_what_reads_some_tables_declares_no_others() -> None:
    code = (
        "import app.store.runs.listing; from sqlmodel import SQLModel;"
        "known = {*SQLModel.metadata.tables};"
        "print(*sorted({'runs', 'schedules', 'articles', 'webhooks'} & known))"
    )

    assert printed_by(code) == "runs schedules\n"


def test_the_web_answers_before_its_templates_are_compiled() -> None:
    code = (
        "import sys, app.web.application; from app.web.dashboard import rendering as r;"
        "before = len(r.ENVIRONMENT.cache); r.compile_templates();"
        "print(before, len(r.ENVIRONMENT.cache) == len(r.ENVIRONMENT.list_templates()))"
    )

    assert printed_by(code) == "0 True\n"


def test_pyjwt_works_when_it_is_used() -> None:
    code = "import app, redis.auth.token as t, jwt; print(t.jwt.decode == jwt.decode)"

    assert printed_by(code) == "True\n"


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


def every_command() -> list[str]:
    """Of the parser: each command, each group and each command of a group, in words."""
    loaded = {name: one.load(name) for name, one in COMMANDS.items()}
    return [
        words
        for name, command in loaded.items()
        for words in (name, *(f"{name} {below}" for below in getattr(command, "commands", ())))
    ]


EXECUTED = """
import sys
from importlib.util import _LazyModule
from app.cli.main import main
sys.argv = ["rollcall", *sys.argv[1:]]
try:
    main()
finally:
    executed = [name for name, one in sys.modules.items() if type(one) is not _LazyModule]
    print(*executed, sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize("words", every_command())
def test_help_executes_only_what_declares_the_options(words: str) -> None:
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", EXECUTED, *words.split(), "--help"],
        cwd=PROJECT,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    executed = done.stderr.split()
    own = [name for name in executed if name.startswith(("app.", "workers.")) if is_file(name)]
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout
    assert "typer" in executed
    assert NOT_FOR_HELP.isdisjoint(executed)
    assert [name for name in own if not name.startswith(("app.cli.", *DECLARATIONS))] == []


def is_file(module: str) -> bool:
    return (PROJECT / f"{module.replace('.', '/')}.py").exists()


def test_a_worker_that_the_command_starts_imports_only_what_it_starts_with() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "app.workers"],
        cwd=PROJECT,
        env={"MAX_JOBS": "none: it ends when it has imported everything"},
        capture_output=True,
        text=True,
        check=False,
    )

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 2
    assert "workers.lifecycle" in imported
    assert imported.isdisjoint((*HEAVY, *FORMATTING))


def test_nothing_is_collected_while_a_worker_is_imported() -> None:
    code = (
        "import gc; gc.collect(); before = gc.get_stats()[2]['collections'];"
        "from app.workers import Settings;"
        "print(gc.get_stats()[2]['collections'] - before, gc.isenabled())"
    )

    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "0 True\n"
