"""The `news` command and its `stories` and `story`: articles and stories that were collected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.errors import WrongState
from app.store import tenancy
from app.store.content import news_listing
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.bounded import RowPage
    from app.store.content.news_listing import NewsFilter
    from app.store.db import Connection, Pool

    After = tuple[datetime, int] | None
    ReadPage = Callable[[Connection, NewsFilter, After, int], Awaitable[RowPage]]

app = typer.Typer(invoke_without_command=True)

ARTICLES = ("published_at", "source", "sentiment", "title", "entities", "url")
STORIES = ("id", "told_at", "topic", "entities")
Row = dict[str, Any]

Entity = Annotated[str | None, typer.Option(help="Only under this entity, as it is tracked.")]
Text = Annotated[str | None, typer.Option(help="Only with this text in the title.")]
Since = Annotated[
    str | None, typer.Option(help="From this instant on, or an age such as `12h` or `2d`.")
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")]


@app.callback()
def news(
    ctx: typer.Context,
    *,
    entity: Entity = None,
    text: Text = None,
    since: Since = None,
    limit: Limit = 20,
    as_json: terminal.JSON = False,
) -> None:
    """List collected articles, the last published first.

    Examples: `rollcall news --entity Arsenal --since 2d`, `rollcall news --text derby --json`
    """
    if not terminal.is_subcommand(ctx):
        rows = _read((entity, text, since), limit, news_listing.articles)
        _show(rows, ARTICLES, as_json=as_json)


@app.command()
def stories(
    *,
    entity: Entity = None,
    text: Text = None,
    since: Since = None,
    limit: Limit = 20,
    as_json: terminal.JSON = False,
) -> None:
    """List collected stories, the last updated first.

    Example: `rollcall news stories --entity Arsenal`
    """
    rows = _read((entity, text, since), limit, news_listing.stories)
    _show(rows, STORIES, as_json=as_json)


@app.command()
def story(
    story_id: Annotated[
        int, typer.Argument(help="Its id, as `news stories` prints it.", min=1, max=2**63 - 1)
    ],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Show one story with its updates and the course of its sentiment.

    Example: `rollcall news story 17`
    """

    async def read(pool: Pool) -> Row:
        async with tenancy.transaction(pool, None) as connection:
            row = await news_listing.story(connection, story_id)
        if row is None:
            raise WrongState(f"there is no story {story_id}; see `rollcall news stories`")
        return row

    found = connections.with_pool(read)
    if as_json:
        terminal.print_json(found)
        return
    terminal.print_fields({name: found[name] for name in (*STORIES, "categories", "keywords")})
    terminal.print_table(found["updates"], ("at", "headline", "articles"))
    terminal.print_table(found["sentiments"], ("at", "value"))


def _read(
    chosen: tuple[str | None, str | None, str | None], limit: int, read_page: ReadPage
) -> list[Row]:
    entity, text, since = chosen

    async def read(pool: Pool) -> list[Row]:
        now = await heartbeats.database_now(pool)
        begin = None if since is None else terminal.parse_instant_or_age(since, now)
        rows: list[Row] = []
        after: Any = None
        async with tenancy.transaction(pool, None) as connection:
            while len(rows) < limit:
                filters = news_listing.NewsFilter(entity, text, begin)
                found = await read_page(connection, filters, after, limit - len(rows))
                rows += found.rows
                after = found.after
                if after is None:
                    break
        return rows

    return connections.with_pool(read)


def _show(rows: list[Row], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(rows)
    else:
        shown = (row | {"entities": ", ".join(row["entities"])} for row in rows)
        terminal.print_table(shown, columns)
