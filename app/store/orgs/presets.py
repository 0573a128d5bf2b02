"""Statements for collection presets: an organisation's own and the built-in ones."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class CollectionPreset:
    """A named set of sources. `built_in`: it is available to every organisation."""

    id: UUID
    name: str
    sources: list[dict[str, Any]]
    revision: int
    created_at: datetime
    updated_at: datetime
    built_in: bool


# Each statement filters by organisation itself, in addition to row-level security.
# All, or the one with this id.
LIST = """
SELECT id, name, sources, revision, created_at, updated_at, org_id IS NULL
FROM collection_presets WHERE (org_id = $1 OR org_id IS NULL) AND ($2::uuid IS NULL OR id = $2)
ORDER BY org_id IS NULL DESC, name
"""
ADD = """
INSERT INTO collection_presets (id, org_id, name, sources, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, $5, $5)
"""
SET = """
UPDATE collection_presets SET name = $3, sources = $4, revision = revision + 1, updated_at = $5
WHERE org_id = $1 AND id = $2
"""


async def all_of(connection: Connection, org_id: UUID) -> list[CollectionPreset]:
    """Return the presets available to an organisation, built-in ones first, by name."""
    return [CollectionPreset(*row) for row in await connection.fetch(LIST, org_id, None)]


async def one(connection: Connection, org_id: UUID, preset_id: UUID) -> CollectionPreset | None:
    """Return one preset available to the organisation; None if there is none."""
    row = await connection.fetchrow(LIST, org_id, preset_id)
    return None if row is None else CollectionPreset(*row)


async def add(connection: Connection, org_id: UUID, preset: CollectionPreset) -> None:
    """Insert a preset. Raises asyncpg.UniqueViolationError if its name is taken."""
    await connection.execute(ADD, preset.id, org_id, preset.name, preset.sources, preset.created_at)


async def change(
    connection: Connection, org_id: UUID, preset: CollectionPreset, now: datetime
) -> None:
    """Update the name and sources of an organisation's preset and increment its revision."""
    await connection.execute(SET, org_id, preset.id, preset.name, preset.sources, now)


async def drop(connection: Connection, org_id: UUID, preset_id: UUID) -> None:
    """Delete a preset. Raises asyncpg.ForeignKeyViolationError if a schedule uses it."""
    await connection.execute(
        "DELETE FROM collection_presets WHERE org_id = $1 AND id = $2", org_id, preset_id
    )
