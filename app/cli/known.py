"""Names that a filter takes: one that nothing has is an error, not an empty list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli import connections
from app.core.errors import UnknownJob
from app.store.runs import names

if TYPE_CHECKING:
    from app.store.db import Pool


async def check_job(pool: Pool, name: str | None) -> None:
    """Raise UnknownJob if no schedule, no run and no declared job has this name."""
    if name is None or await names.knows_job(pool, name):
        return
    from workers import registry  # noqa: PLC0415 - for a name that the database does not know

    loaded = registry.load(connections.load_config())
    if name not in loaded.names() and name not in (one.key for one in loaded.declared):
        raise UnknownJob(f"there is no job {name!r}; see `rollcall jobs`")


async def check_source(pool: Pool, name: str | None) -> None:
    """Raise UnknownJob if no run has collected a source of this name and none is declared."""
    if name is None or await names.knows_source(pool, name):
        return
    from workers import registry  # noqa: PLC0415 - as above

    known = registry.source_names(connections.load_config())
    if name not in known:
        raise UnknownJob(f"there is no source {name!r}; known: {', '.join(known)}")
