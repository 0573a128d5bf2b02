"""The `source` commands for authors of recipes: `new`, `lint`, `try`, `diff`, `schema`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.authoring import changes, golden, page, trial
from app.cli import connections, new_files, terminal
from app.core import config
from app.core.errors import Auth, BadConfig, BadRecipe, Failure, WrongState, file_reason
from app.core.printable import counted
from app.fetch import recipe_clients
from app.sources.recipes import enums, load, model, sandbox, source
from app.store.content import recent_pages

if TYPE_CHECKING:
    from pydantic import SecretStr
    from rich.table import Table

    from app.authoring.changes import RowChanges
    from app.authoring.trial import TrialPage
    from app.sources.recipes.load import RecipeFault
    from app.sources.recipes.model import Recipe
    from app.sources.recipes.source import RecipeSource

app = typer.Typer(help="Write, check and try recipes.", no_args_is_help=True)

_MAX_ROWS = 10  # of a table
_MAX_COLUMNS = 7  # of the table of rows; the table below it lists all
_KEY = "(key)"  # no name of a recipe's column
_MAX_CELL_WIDTH = 40  # characters
FILE = Annotated[Path, typer.Argument(help="A recipe, such as sources/shop.toml.", exists=True)]


@app.command()
def new(
    url: Annotated[str, typer.Argument(help="A JSON API, a feed, or a page with a list.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; must not exist.")] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Fetch an address and the page after it, and propose a working recipe.

    Examples: `rollcall source new https://news.ycombinator.com/rss`,
    `rollcall source new "https://api.example.com/wares?page=1" --out sources/wares.toml`
    """
    if out is not None and out.exists():
        raise WrongState(f"{out} already exists; it is not overwritten")

    async def propose() -> str:
        async with page.open_page_fetcher(connections.load_config()) as session:
            return await session.propose(url)

    text = asyncio.run(_or_exit(propose()))
    recipe = text if out is None else _renamed(text, out.stem)
    if out is not None:
        new_files.write({out: recipe})
    if as_json:
        terminal.print_json({"file": out, "recipe": recipe})
    elif out is None:
        sys.stdout.write(recipe)
    else:
        sys.stdout.write(f"{out} is written; next: rollcall source try {out}\n")


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Recipes.", exists=True)],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Print each fault of the recipes: its line, its key, and how to fix it. Exit code 1 if any.

    Examples: `rollcall source lint sources/*.toml`,
    `rollcall source lint sources/shop.toml --json`
    """
    faults = [(path, fault) for path in files for fault in _faults(path)]
    if as_json:
        terminal.print_json([_fault_as_json(*found) for found in faults])
    else:
        for path, fault in faults:
            terminal.write_line(f"{path}:{fault}")
        if not faults:
            recipes = "recipe" if len(files) == 1 else "recipes"
            sys.stdout.write(f"{len(files)} {recipes}, no fault\n")
    if faults:
        raise typer.Exit(1)


@app.command(name="try")
def try_(
    file: FILE,
    *,
    pages: Annotated[int, typer.Option(min=1, max=20, help="Pages of each partition.")] = 1,
    partitions: Annotated[int, typer.Option(min=1, max=20, help="Partitions.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Save pages and rows as a golden test.")] = None,
    as_json: terminal.JSON = False,
) -> None:
    """Fetch pages under the host's limits, and show their rows, empty columns and timings.

    Nothing is stored. Exit code 1 if a page could not be fetched or parsed, if the pages ended but
    their end was not seen, or if no page has a row.
    Examples: `rollcall source try sources/shop.toml`,
    `rollcall source try sources/shop.toml --pages 3 --save tests/golden/shop`
    """
    text, recipe = _read(file)

    async def fetch() -> list[TrialPage]:
        reader = source.RecipeSource(recipe)
        async with page.open_page_fetcher(connections.load_config()) as session:
            fetcher = session.fetchers.create(
                reader.fetcher_name, recipe_clients.fetcher_options(reader, _secret)
            )
            return await trial.fetch_trial_pages(
                reader, session, fetcher, parts=partitions, pages=pages
            )

    results = asyncio.run(_or_exit(fetch()))
    if as_json:
        terminal.print_json(_trial_as_json(results))
    else:
        _show_trial(recipe, results)
    if save is not None:
        files = golden.save(save, text, results)
        sys.stderr.write(f"{counted(len(files), 'file')} saved in {save}\n")
    if any(result.failure for result in results) or not any(result.rows for result in results):
        raise typer.Exit(1)


@app.command()
def diff(
    file: FILE,
    golden_: Annotated[
        Path | None, typer.Option("--golden", help="The folder that `try --save` wrote.")
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Show which rows an edit of a recipe changes, by parsing saved pages again.

    Without --golden, use the pages and rows in the database. Exit code 1 if any row differs.
    Examples: `rollcall source diff sources/shop.toml --golden tests/golden/shop`,
    `rollcall source diff sources/shop.toml`
    """
    _, recipe = _read(file)
    if golden_ is not None:
        raws, before = golden.load(golden_)
    else:
        raws = connections.with_pool(lambda pool: recent_pages.newest_pages(pool, recipe.name))
        before = connections.with_pool(lambda pool: recent_pages.stored_items(pool, recipe.name))
    if not raws:
        raise BadConfig(f"no page of {recipe.name} is stored: run it once, or see `try --save`")
    after = asyncio.run(_or_exit(_parse_again(source.RecipeSource(recipe), raws)))
    difference = changes.compare_rows(before, after)
    if as_json:
        terminal.print_json(_changes_as_json(difference))
    else:
        _show_changes(difference)
    if not difference.is_empty:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for completion and checks in an editor.

    Example: `rollcall source schema > recipe.schema.json`
    """
    sys.stdout.write(json.dumps(model.json_schema(), indent=2) + "\n")


def _faults(path: Path) -> list[RecipeFault]:
    try:
        text = path.read_text("utf-8")
        recipe = load.load(text)
    except (OSError, UnicodeDecodeError) as error:
        fix = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "name a file"
        return [load.RecipeFault(1, "", f"cannot be read: {file_reason(error)}", fix)]
    except BadRecipe as error:
        return [fault for fault in error.faults if isinstance(fault, load.RecipeFault)]
    fix = f"name the file {recipe.name}.toml, or the source {path.stem}"
    matches = recipe.name == path.stem
    misnamed = (
        [] if matches else [load.RecipeFault(1, "name", f"is {recipe.name} in {path.name}", fix)]
    )
    return [*misnamed, *load.disallowed_secrets(recipe, "env", text)]


def _read(path: Path) -> tuple[str, Recipe]:
    """Return a recipe's text and the recipe; an invalid one ends the command with its faults."""
    try:
        text = path.read_text("utf-8")
        recipe = load.load(text)
        faults: Sequence[object] = load.disallowed_secrets(recipe, "env", text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {file_reason(error)}") from None
    except BadRecipe as error:
        recipe, text, faults = None, "", error.faults
    if recipe is None or faults:
        sys.stderr.writelines(f"{path}:{fault}\n" for fault in faults)
        raise typer.Exit(1)
    for reference in load.secret_references(recipe):
        _secret(reference)
    return text, recipe


def _secret(reference: str) -> SecretStr:
    name = reference.partition(":")[2]
    value = config.secret(name)
    if value is None:
        raise BadConfig(
            f"{name} is not set; the recipe refers to it as {reference}:"
            f" {config.where_to_set(name)}"
        )
    return value


async def _or_exit(step: Any) -> Any:
    """Return the step's result; raises BadConfig with one sentence if the site fails."""
    try:
        return await step
    except Failure as failure:
        hint = _hint(failure)
        raise BadConfig(f"{failure.kind.value}: {failure}{hint}") from None


def _hint(failure: Failure) -> str:
    if failure.kind.value == "unsafe":
        return " (if you may fetch from it, add its host to GUARD_ALLOW)"
    return " (see [auth])" if isinstance(failure, Auth) else ""


async def _parse_again(reader: RecipeSource, raws: Iterable[Any]) -> dict[str, dict[str, Any]]:
    parsers = sandbox.Sandbox(1)
    rows = dict[str, dict[str, Any]]()
    try:
        for raw in raws:
            _, records = await trial.parse_page(reader, raw, parsers)
            rows |= {r.key: dict(r.data) for r in records if hasattr(r, "key")}
    finally:
        await parsers.close()
    return json.loads(json.dumps(rows))


def _renamed(text: str, name: str) -> str:
    """Return the recipe's text with the source named after its file."""
    lines = text.splitlines(keepends=True)
    index = next(number for number, line in enumerate(lines) if line.startswith("name = "))
    lines[index] = f"name = {json.dumps(name)}\n"
    text = "".join(lines)
    load.load(text)  # raises for an invalid name before anything is written
    return text


def _fault_as_json(path: Path, fault: RecipeFault) -> dict[str, Any]:
    return {
        "file": str(path),
        "line": fault.line,
        "key": fault.key,
        "problem": fault.problem,
        "mend": fault.fix,
    }


def _trial_as_json(results: Sequence[TrialPage]) -> list[dict[str, Any]]:
    return [
        {
            "partition": one.partition,
            "page": one.page,
            "url": one.raw.url if one.raw else None,
            "status": one.raw.status if one.raw else None,
            "bytes": len(one.raw.body) if one.raw else 0,
            "seconds": {"asked": round(one.seconds[0], 3), "read": round(one.seconds[1], 3)},
            "rows": [{"key": item.key, "data": dict(item.data)} for item in one.rows],
            "refused": [{"key": r.record_id, "reason": r.reason} for r in one.rejected],
            "more": one.more,
            "end": one.end,
            "failure": None
            if one.failure is None
            else {"kind": one.failure.kind.value, "message": str(one.failure)},
        }
        for one in results
    ]


def _show_trial(recipe: Recipe, results: Sequence[TrialPage]) -> None:
    console = terminal.console(markup=True)
    for one in results:
        console.print(_headline(one))
        for refused in one.rejected[:_MAX_ROWS]:
            console.print(f"  refused: {terminal.markup(refused.reason[:300])}", style="yellow")
    items = [item for one in results for item in one.rows]
    if not items:
        console.print("no rows", style="bold red")
        return
    declared = [*recipe.extract.fields, *(name for item in items for name in item.data)]
    names = [*dict.fromkeys(declared)]
    filled = [name for name in names if any(item.data.get(name) for item in items)][:_MAX_COLUMNS]
    rows = (
        {_KEY: item.key, **{name: _cell(item.data.get(name)) for name in filled}}
        for item in items[:_MAX_ROWS]
    )
    terminal.print_table(rows, (_KEY, *filled), own_names=True)
    if len(items) > _MAX_ROWS:
        console.print(f"and {len(items) - _MAX_ROWS} rows more")
    console.print(_column_table(recipe, [item.data for item in items], names))


def _headline(one: TrialPage) -> str:
    where = f"{one.partition}, page {one.page}"
    if one.failure is not None:
        failure = terminal.markup(f"{where}: {one.failure.kind.value}: {one.failure}")
        return f"[bold red]{failure}[/]"
    size = len(one.raw.body) if one.raw else 0
    fetch_ms, parse_ms = (round(seconds * 1000) for seconds in one.seconds)
    more = (
        "; there are further pages" if one.more else f"; the end: {terminal.markup(one.end or '-')}"
    )
    return (
        f"{terminal.markup(where)}: {counted(len(one.rows), 'row')}, {len(one.rejected)} refused;"
        f" {size:,} bytes;"
        f" {fetch_ms} ms to fetch, {parse_ms} ms to parse{more}"
    )


def _column_table(recipe: Recipe, rows: Sequence[Any], names: Sequence[str]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not imported for `--help`

    table = Table()
    for name in ("column", "type", "empty", "example"):
        table.add_column(name, overflow="fold")
    for name in names:
        values = [row.get(name) for row in rows]
        empty = sum(value in (None, "", []) for value in values)
        example = next((value for value in values if value not in (None, "", [])), None)
        field = recipe.extract.fields.get(name)
        kind = (
            field.type.value if field else ("feed" if recipe.kind is enums.RecipeKind.FEED else "")
        )
        share = f"{empty} of {len(values)}"
        style = "red" if empty == len(values) else ("yellow" if empty else "")
        cell = f"[{style}]{share}[/]" if style else share
        table.add_row(name, kind, cell, terminal.markup(_cell(example)))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_CELL_WIDTH else f"{text[: _MAX_CELL_WIDTH - 1]}…"


def _changes_as_json(difference: RowChanges) -> dict[str, Any]:
    changed = {
        key: {name: {"before": b, "after": a} for name, (b, a) in columns.items()}
        for key, columns in difference.changed.items()
    }
    return {
        "gone": difference.removed,
        "new": difference.added,
        "changed": changed,
        "same": difference.unchanged,
    }


def _show_changes(difference: RowChanges) -> None:
    console = terminal.console(markup=True)
    for sign, style, keys in (("-", "red", difference.removed), ("+", "green", difference.added)):
        for key in keys[:_MAX_ROWS]:
            console.print(f"{sign} {terminal.markup(key)}", style=style)
    for key, columns in [*difference.changed.items()][:_MAX_ROWS]:
        console.print(f"~ {terminal.markup(key)}")
        for name, (before, after) in columns.items():
            old, new = terminal.markup(_cell(before)), terminal.markup(_cell(after))
            console.print(f"    {terminal.markup(name)}: [red]{old}[/] -> [green]{new}[/]")
    console.print(
        f"{len(difference.removed)} gone, {len(difference.added)} new,"
        f" {len(difference.changed)} changed, {difference.unchanged} the same"
    )
