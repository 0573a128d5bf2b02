"""The `rejected` command: records that were not stored, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, known, terminal
from app.store.runs import listing
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.db import Pool

app = typer.Typer()

COLUMNS = ("at", "job", "source", "partition", "page", "record_id", "reason", "run")


@app.command()
def rejected(
    *,
    job: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From this instant on, or an age such as `1d`.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")] = 50,
    as_json: terminal.JSON = False,
) -> None:
    """List rejected records with the run that rejected them, the newest run first.

    Examples: `rollcall rejected --since 1d`,
    `rollcall rejected --job source:books --json`
    """

    async def read(pool: Pool) -> list[dict[str, Any]]:
        begin = None
        if since is not None:
            begin = terminal.parse_instant_or_age(since, await heartbeats.database_now(pool))
        filters = listing.RejectedFilter(job=job, source=source, since=begin)
        rows = (await listing.rejected(pool, filters, limit))[0]
        if not rows:
            await known.check_job(pool, job)
            await known.check_source(pool, source)
        return rows

    rows = connections.with_pool(read)
    if as_json:
        texts = (row | {"data": row["data"].decode("utf-8", "replace")} for row in rows)
        terminal.print_json(list(texts))
        return
    shown = (row | {"at": row["created_at"], "run": str(row["execution_id"])[:8]} for row in rows)
    terminal.print_table(shown, COLUMNS)
