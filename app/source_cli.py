"""The commands for authors of sources: `python -m app source new`, `lint`, `try`, `diff`."""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app import terminal
from app.authoring import changes, golden, page, proposal, trial
from app.authoring.changes import Changes
from app.authoring.trial import Seen
from app.errors import Auth, BadConfig, BadRecipe, Failure
from app.fetch.openings import opening
from app.recipes.load import Fault, foreign, load, secrets
from app.recipes.model import Recipe, json_schema
from app.recipes.sandbox import Sandbox
from app.recipes.source import RecipeSource
from app.recipes.words import Kind
from app.store import kept

app = typer.Typer(help="Write, check and try sources of your own.", no_args_is_help=True)

SHOWN = 10  # rows of a table
COLUMNS = 7  # of a table of rows; all are told of below it
WIDE = 40  # characters of a cell
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FILE = Annotated[Path, typer.Argument(help="A recipe, such as sources/shop.toml.", exists=True)]


@app.command()
def new(
    url: Annotated[str, typer.Argument(help="A JSON API, a feed, or a page with a list.")],
    out: Annotated[Path | None, typer.Option(help="Write it there; must not exist.")] = None,
) -> None:
    """Look once at an address, politely, and propose a recipe that works as it stands.

    Examples: `python -m app source new https://news.ycombinator.com/rss`,
    `python -m app source new "https://api.example.com/wares?page=1" --out sources/wares.toml`
    """
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is there already; it is not overwritten")

    async def looked() -> str:
        async with page.opened(terminal.config()) as eye:
            return proposal.proposed(await eye.look(url), url)

    text = asyncio.run(_or_exit(looked()))
    if out is None:
        sys.stdout.write(text)
        return
    out.write_text(_named(text, out.stem), "utf-8")
    sys.stdout.write(f"{out} is written; next: python -m app source try {out}\n")


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Recipes.", exists=True)],
    *,
    as_json: JSON = False,
) -> None:
    """Name each fault of recipes: its line, its key, and how to mend it. Exit code 1 if any.

    Examples: `python -m app source lint sources/*.toml`,
    `python -m app source lint sources/shop.toml --json`
    """
    found = [(path, fault) for path in files for fault in _faults(path)]
    if as_json:
        told = [_plain_fault(path, fault) for path, fault in found]
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        for path, fault in found:
            sys.stdout.write(f"{path}:{fault}\n")
        if not found:
            sys.stdout.write(f"{len(files)} recipes, no fault\n")
    if found:
        raise typer.Exit(1)


@app.command(name="try")
def try_(
    file: FILE,
    *,
    pages: Annotated[int, typer.Option(min=1, max=20, help="Pages of each partition.")] = 1,
    partitions: Annotated[int, typer.Option(min=1, max=20, help="Partitions.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Keep pages and rows as a test.")] = None,
    as_json: JSON = False,
) -> None:
    """Ask for one page, politely, and show its rows, what is empty in them, and the time it took.

    Nothing is stored. Exit code 1 if a page could not be had or read, or has no row.
    Examples: `python -m app source try sources/shop.toml`,
    `python -m app source try sources/shop.toml --pages 3 --save tests/golden/shop`
    """
    text, recipe = _read(file)

    async def asked() -> list[Seen]:
        source = RecipeSource(recipe)
        async with page.opened(terminal.config()) as eye:
            window = eye.visits.window(source.window, opening(source, _secret))
            return await trial.tried(source, eye, window, parts=partitions, pages=pages)

    seen = asyncio.run(_or_exit(asked()))
    if as_json:
        sys.stdout.write(json.dumps(_plain_trial(seen)) + "\n")
    else:
        _show_trial(recipe, seen)
    if save is not None:
        files = golden.save(save, text, seen)
        sys.stderr.write(f"{len(files)} files are kept in {save}\n")
    if any(one.failure for one in seen) or not any(one.rows for one in seen):
        raise typer.Exit(1)


@app.command()
def diff(
    file: FILE,
    golden_: Annotated[
        Path | None, typer.Option("--golden", help="Pages that `try --save` kept.")
    ] = None,
    *,
    as_json: JSON = False,
) -> None:
    """Show which rows an edit of a recipe changes, read again from pages that were kept.

    Without --golden, from the pages and rows in the database. Exit code 1 if any row differs.
    Examples: `python -m app source diff sources/shop.toml --golden tests/golden/shop`,
    `python -m app source diff sources/shop.toml`
    """
    _, recipe = _read(file)
    if golden_ is not None:
        raws, before = golden.load(golden_)
    else:
        raws = terminal.with_pool(lambda pool: kept.raws(pool, recipe.name))
        before = terminal.with_pool(lambda pool: kept.rows(pool, recipe.name))
    if not raws:
        raise BadConfig(f"no page of {recipe.name} is kept: run it once, or see `try --save`")
    after = asyncio.run(_or_exit(_again(RecipeSource(recipe), raws)))
    found = changes.between(before, after)
    if as_json:
        sys.stdout.write(json.dumps(_plain_changes(found)) + "\n")
    else:
        _show_changes(found)
    if not found.none:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors that complete and check as you write.

    Example: `python -m app source schema > recipe.schema.json`
    """
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


def _faults(path: Path) -> list[Fault]:
    try:
        text = path.read_text("utf-8")
        recipe = load(text)
    except (OSError, UnicodeDecodeError) as error:
        return [Fault(1, "", f"cannot be read: {type(error).__name__}", "save it as UTF-8")]
    except BadRecipe as bad:
        return [fault for fault in bad.faults if isinstance(fault, Fault)]
    mend = f"call the file {recipe.name}.toml, or the source {path.stem}"
    named = recipe.name == path.stem
    misnamed = [] if named else [Fault(1, "name", f"is {recipe.name} in {path.name}", mend)]
    return [*misnamed, *foreign(recipe, "env", text)]


def _read(path: Path) -> tuple[str, Recipe]:
    """A recipe and its text; a bad one ends the command with its faults."""
    try:
        text = path.read_text("utf-8")
        recipe = load(text)
        faults: Sequence[object] = foreign(recipe, "env", text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from None
    except BadRecipe as bad:
        recipe, text, faults = None, "", bad.faults
    if recipe is None or faults:
        sys.stderr.writelines(f"{path}:{fault}\n" for fault in faults)
        raise typer.Exit(1)
    for reference in secrets(recipe):
        _secret(reference)
    return text, recipe


def _secret(reference: str) -> SecretStr:
    name = reference.partition(":")[2]
    value = terminal.secret(name)
    if value is None:
        raise BadConfig(f"{name} is not set; the recipe names it as {reference}: put it into .env")
    return value


async def _or_exit(step: Any) -> Any:
    """What a step gives; a failure of the site ends the command with one sentence."""
    try:
        return await step
    except Failure as failure:
        hint = _hint(failure)
        raise BadConfig(f"{failure.kind.value}: {failure}{hint}") from None


def _hint(failure: Failure) -> str:
    if failure.kind.value == "unsafe":
        return " (if it is yours to visit, name its host in GUARD_ALLOW)"
    return " (see [auth])" if isinstance(failure, Auth) else ""


async def _again(source: RecipeSource, raws: Iterable[Any]) -> dict[str, dict[str, Any]]:
    sandbox = Sandbox(1)
    rows = dict[str, dict[str, Any]]()
    try:
        for raw in raws:
            _, records = await trial.read(source, raw, sandbox)
            rows |= {r.key: dict(r.data) for r in records if hasattr(r, "key")}
    finally:
        await sandbox.close()
    return json.loads(json.dumps(rows))


def _named(text: str, name: str) -> str:
    """The proposal under the name of its file, which is the source's."""
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("name = "))
    renamed = f"name = {json.dumps(name)}\n"
    text = "".join([*lines[:at], renamed, *lines[at + 1 :]])
    load(text)  # a name that cannot be is told of before anything is written
    return text


def _plain_fault(path: Path, fault: Fault) -> dict[str, Any]:
    told = {name: getattr(fault, name) for name in ("line", "key", "problem", "mend")}
    return {"file": str(path), **told}


def _plain_trial(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    return [
        {
            "partition": one.partition,
            "page": one.page,
            "url": one.raw.url if one.raw else None,
            "status": one.raw.status if one.raw else None,
            "bytes": len(one.raw.body) if one.raw else 0,
            "seconds": {"asked": round(one.seconds[0], 3), "read": round(one.seconds[1], 3)},
            "rows": [{"key": item.key, "data": dict(item.data)} for item in one.rows],
            "refused": [{"key": r.record_id, "reason": r.reason} for r in one.refused],
            "more": one.more,
            "failure": None
            if one.failure is None
            else {"kind": one.failure.kind.value, "message": str(one.failure)},
        }
        for one in seen
    ]


def _show_trial(recipe: Recipe, seen: Sequence[Seen]) -> None:
    console = Console(highlight=False)
    for one in seen:
        console.print(_headline(one))
        for refused in one.refused[:SHOWN]:
            console.print(f"  refused: {escape(refused.reason[:300])}", style="yellow")
    items = [item for one in seen for item in one.rows]
    if not items:
        console.print("no rows", style="bold red")
        return
    said = [*recipe.extract.fields, *(name for item in items for name in item.data)]
    names = [*dict.fromkeys(said)]
    filled = [name for name in names if any(item.data.get(name) for item in items)][:COLUMNS]
    rows = Table("key", *filled)
    for item in items[:SHOWN]:
        rows.add_row(*(escape(_cell(v)) for v in (item.key, *map(item.data.get, filled))))
    console.print(rows)
    if len(items) > SHOWN:
        console.print(f"and {len(items) - SHOWN} rows more")
    console.print(_columns(recipe, [item.data for item in items], names))


def _headline(one: Seen) -> str:
    where = f"{one.partition}, page {one.page}"
    if one.failure is not None:
        return f"[bold red]{escape(where)}: {one.failure.kind.value}: {escape(str(one.failure))}[/]"
    size = len(one.raw.body) if one.raw else 0
    asked, took = (round(seconds * 1000) for seconds in one.seconds)
    more = "; there are further pages" if one.more else ""
    return (
        f"{escape(where)}: {len(one.rows)} rows, {len(one.refused)} refused; {size:,} bytes;"
        f" {asked} ms to have it, {took} ms to read it{more}"
    )


def _columns(recipe: Recipe, rows: Sequence[Any], names: Sequence[str]) -> Table:
    table = Table("column", "type", "empty", "example")
    for name in names:
        values = [row.get(name) for row in rows]
        empty = sum(value in (None, "", []) for value in values)
        example = next((value for value in values if value not in (None, "", [])), None)
        said = recipe.extract.fields.get(name)
        kind = said.type.value if said else ("feed" if recipe.kind is Kind.FEED else "")
        share = f"{empty} of {len(values)}"
        style = "red" if empty == len(values) else ("yellow" if empty else "")
        told = f"[{style}]{share}[/]" if style else share
        table.add_row(name, kind, told, escape(_cell(example)))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"


def _plain_changes(found: Changes) -> dict[str, Any]:
    changed = {
        key: {name: {"before": b, "after": a} for name, (b, a) in columns.items()}
        for key, columns in found.changed.items()
    }
    return {"gone": found.gone, "new": found.new, "changed": changed, "same": found.same}


def _show_changes(found: Changes) -> None:
    console = Console(highlight=False)
    for sign, style, keys in (("-", "red", found.gone), ("+", "green", found.new)):
        for key in keys[:SHOWN]:
            console.print(f"{sign} {escape(key)}", style=style)
    for key, columns in [*found.changed.items()][:SHOWN]:
        console.print(f"~ {escape(key)}")
        for name, (before, after) in columns.items():
            console.print(
                f"    {name}: [red]{escape(_cell(before))}[/] -> [green]{escape(_cell(after))}[/]"
            )
    console.print(
        f"{len(found.gone)} gone, {len(found.new)} new, {len(found.changed)} changed,"
        f" {found.same} the same"
    )
