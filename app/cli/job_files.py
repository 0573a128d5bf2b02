"""The `job` commands: write the file of an own job or source, with its test."""

import ast
import keyword
import os
import re
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli import connections, new_files, terminal

app = typer.Typer(
    help="Write the file of an own job or source, with its test.", no_args_is_help=True
)

NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")

JOB = '''"""The job `{name}`."""

from app.jobs import Run, job

URL = "https://example.org/{name}.json"


@job(every=3600, timeout=120)
async def {name}(run: Run, *, page: int = 1) -> dict[str, int]:
    """Store the rows of one page as items."""
    response = await run.client.get(URL, params={{"page": page}})
    response.raise_for_status()
    counts = await run.store("{name}", response.json(), key="id")
    return {{"stored": counts.inserted}}
'''
JOB_TEST = '''"""The job `{name}`, on private servers and a pretend web."""

import asyncio

from app.jobs.testing import PretendWeb, contract, lab

from {folder}.{name} import URL
from {folder}.{name} import {name} as written


def pretend() -> PretendWeb:
    web = PretendWeb()
    web.page(URL, [{{"id": 1, "title": "first"}}, {{"id": 2, "title": "second"}}])
    return web


def test_rows_are_stored_once() -> None:
    async def check() -> None:
        async with lab(written, web=pretend()) as opened:
            first = await opened.run()
            again = await opened.run(page=1)
            items = await opened.items("{name}")

        assert (first.status, first.stats["stored"]) == ("success", 2)
        assert (again.status, again.stats["stored"]) == ("success", 0)
        assert sorted(items) == ["1", "2"]

    asyncio.run(check())


def test_it_is_safe_to_repeat_wherever_its_worker_dies() -> None:
    asyncio.run(contract(written, web=pretend()))
'''
SOURCE = '''"""The source `{name}`: what was learnt about the site belongs here."""

import json
from collections.abc import Generator, Iterable, Sequence

from app.jobs import (
    HostLimits,
    Item,
    ListingEnd,
    Partition,
    RawPage,
    Rejected,
    SourceRequest,
    source,
)

URL = "https://example.org/{name}.json"


@source(every=3600, never_empty=True)
class {kind}:
    """One page of rows with an `id`."""

    name = "{name}"
    limits = HostLimits(rate=1, burst=2, concurrency=1)

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """One partition."""
        yield from ()
        return [Partition("all")]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        """One page, which says how many rows there are."""
        raw = yield SourceRequest(URL)
        return ListingEnd("the only page", total=len(json.loads(raw.body)))

    def parse(self, raw: RawPage) -> Iterable[Item | Rejected]:
        """The rows; one without an id is rejected."""
        for row in json.loads(raw.body):
            if "id" in row:
                yield Item(self.name, str(row["id"]), row)
            else:
                yield Rejected("no id", json.dumps(row).encode())
'''
SOURCE_PAGE = """[
  {"id": 1, "title": "first"},
  {"id": 2, "title": "second"}
]
"""
SOURCE_TEST = '''"""The source `{name}`, on a saved page."""

import asyncio
from pathlib import Path

from app.jobs.testing import PretendWeb, contract, lab

from {folder}.{name} import URL
from {folder}.{name} import {kind} as Written

PAGE = Path(__file__).with_name("{name}.page.json")


def pretend() -> PretendWeb:
    web = PretendWeb()
    web.page(URL, PAGE.read_bytes(), headers={{"content-type": "application/json"}})
    return web


def test_the_saved_page_is_read_and_stored() -> None:
    async def check() -> None:
        async with lab(Written, web=pretend()) as opened:
            result = await opened.run()
            items = await opened.items("{name}")

        assert (result.status, result.stats["records"]) == ("success", 2)
        assert [item["title"] for item in items.values()] == ["first", "second"]

    asyncio.run(check())


def test_it_is_safe_to_repeat_wherever_its_worker_dies() -> None:
    asyncio.run(contract(Written, web=pretend()))
'''


class JobKind(StrEnum):
    """What `job new` writes."""

    JOB = "job"
    SOURCE = "source"


@app.callback()
def jobs() -> None:
    """Write the file of an own job or source, with its test."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The job's name: a-z, 0-9 and `_`.")],
    *,
    kind: Annotated[
        JobKind, typer.Option(help="A function, or a class that says how to read a site.")
    ] = JobKind.JOB,
    folder: Annotated[
        Path | None, typer.Option(help="The folder; the first of JOBS if not given.")
    ] = None,
    as_json: terminal.JSON = False,
) -> None:
    """Write the file of a job or a source, and a test of it; a source has a saved page too.

    Nothing is overwritten.

    Examples: `rollcall job new prices`, `rollcall job new books --kind source`
    """
    if not NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r}: write a-z, 0-9 and `_`, a letter first")
    read = [Path(entry).resolve() for entry in connections.load_config().jobs]
    if folder is None and not read:
        raise typer.BadParameter("JOBS names no folder: give one", param_hint="--folder")
    where = folder or Path(os.path.relpath(read[0]))
    files = _files(name, kind, _package(where))
    _check_names(name, files[f"{name}.py"])
    there = [str(where / file) for file in files if (where / file).exists()]
    if there:
        raise typer.BadParameter(f"{there[0]} exists already")
    where.mkdir(parents=True, exist_ok=True)
    new_files.write({where / file: text for file, text in files.items()})
    written = [str(where / file) for file in files]
    terminal.print_done({"files": written}, "\n".join(written), as_json=as_json)
    unread = "" if where.resolve() in read else f" once JOBS names {where}"
    command = _test_command(where, name)
    sys.stderr.write(f"Test it with `{command}`; the workers read it when they start{unread}.\n")


def _package(folder: Path) -> str:
    """Return the name of the folder. Raises typer.BadParameter if Python cannot import from it."""
    name = folder.resolve().name
    if not name.isidentifier() or keyword.iskeyword(name) or folder.is_file():
        raise typer.BadParameter(
            f"{folder} is not a folder that Python can import from: give one whose name has a-z,"
            " 0-9 and `_`",
            param_hint="--folder",
        )
    return name


def _test_command(folder: Path, name: str) -> str:
    above = folder.resolve().parent
    path = "" if above == Path.cwd() else f"PYTHONPATH={shlex.quote(str(above))} "
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    test = folder / f"test_{name}.py"
    return f"{path}{shlex.quote(str(python))} -m pytest {shlex.quote(str(test))}"


def _check_names(name: str, text: str) -> None:
    """Raise typer.BadParameter if the name is a word of Python, or one that the file imports."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        raise typer.BadParameter(f"{name!r} is a word of Python: choose another") from None
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names}
    defined = {
        node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.ClassDef)
    }
    if taken := imported & defined:
        raise typer.BadParameter(f"{name!r}: the file imports {taken.pop()}: choose another")


def _files(name: str, kind: JobKind, folder: str) -> dict[str, str]:
    words = {
        "name": name,
        "folder": folder,
        "kind": "".join(part.title() for part in name.split("_") if part),
    }
    if kind is JobKind.JOB:
        return {f"{name}.py": JOB.format(**words), f"test_{name}.py": JOB_TEST.format(**words)}
    return {
        f"{name}.py": SOURCE.format(**words),
        f"{name}.page.json": SOURCE_PAGE,
        f"test_{name}.py": SOURCE_TEST.format(**words),
    }
