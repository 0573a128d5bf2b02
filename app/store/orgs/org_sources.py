"""Statements for the recipes of organisations."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class OrgRecipe:
    """A stored recipe. `recipe`: its text, as it was submitted."""

    name: str
    recipe: str
    revision: int
    created_at: datetime
    updated_at: datetime


# Each statement filters by organisation itself, in addition to row-level security.
NAMES = "SELECT name FROM org_sources WHERE org_id = $1 ORDER BY name"
# All, or the one with this name.
LIST = """
SELECT name, recipe, revision, created_at, updated_at FROM org_sources
WHERE org_id = $1 AND ($2::text IS NULL OR name = $2) ORDER BY name
"""
ADD = """
INSERT INTO org_sources (org_id, name, recipe, revision, created_at, updated_at)
VALUES ($1, $2, $3, 1, $4, $4)
"""
SET = """
UPDATE org_sources SET recipe = $3, revision = revision + 1, updated_at = $4
WHERE org_id = $1 AND name = $2
"""
DROP = "DELETE FROM org_sources WHERE org_id = $1 AND name = $2"
# A later source of the same name must not resume from these cursors.
DROP_CURSORS = "DELETE FROM source_cursors WHERE org_id = $1 AND source = $2"
PRESETS_WITH = """
SELECT name FROM collection_presets WHERE org_id = $1 AND sources @> $2 ORDER BY name
"""


async def names(connection: Connection | Pool, org_id: UUID) -> list[str]:
    """Return the names of an organisation's recipes."""
    return [row["name"] for row in await connection.fetch(NAMES, org_id)]


async def all_of(connection: Connection | Pool, org_id: UUID) -> list[OrgRecipe]:
    """Return an organisation's recipes, by name."""
    return [OrgRecipe(*row) for row in await connection.fetch(LIST, org_id, None)]


async def one(connection: Connection | Pool, org_id: UUID, name: str) -> OrgRecipe | None:
    row = await connection.fetchrow(LIST, org_id, name)
    return None if row is None else OrgRecipe(*row)


async def add(connection: Connection, org_id: UUID, recipe: OrgRecipe) -> None:
    """Insert a recipe. Raises asyncpg.UniqueViolationError if its name is taken."""
    await connection.execute(ADD, org_id, recipe.name, recipe.recipe, recipe.created_at)


async def change(
    connection: Connection, org_id: UUID, name: str, recipe: str, now: datetime
) -> None:
    """Replace the text of a recipe and increment its revision."""
    await connection.execute(SET, org_id, name, recipe, now)


async def drop(connection: Connection, org_id: UUID, name: str, source: str) -> None:
    """Delete a recipe and its cursors, which are stored under `source`. Its items stay."""
    await connection.execute(DROP, org_id, name)
    await connection.execute(DROP_CURSORS, org_id, source)


async def chosen_by(connection: Connection, org_id: UUID, source: str) -> list[str]:
    """Return the names of the organisation's presets that contain this source."""
    rows = await connection.fetch(PRESETS_WITH, org_id, [{"source": source}])
    return [row["name"] for row in rows]
