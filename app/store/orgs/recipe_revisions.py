"""Statements for the revisions of organisations' recipes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

KEPT = 50  # revisions of a recipe

# A revision is never overwritten: its number is unique per recipe.
RECORD = """
INSERT INTO org_source_revisions (org_id, name, revision, recipe, "by", at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
# Older ones too: deleting is idempotent and does not rely on the one before.
FORGET = "DELETE FROM org_source_revisions WHERE org_id = $1 AND name = $2 AND revision <= $3"

# Each statement filters by organisation itself, in addition to row-level security.
LIST = """
SELECT revision, "by", at FROM org_source_revisions
WHERE org_id = $1 AND name = $2 ORDER BY revision DESC LIMIT $3
"""
TEXT = """
SELECT recipe FROM org_source_revisions WHERE org_id = $1 AND name = $2 AND revision = $3
"""


@dataclass(frozen=True, slots=True)
class RecipeRevision:
    """The text of a recipe from `at` on, and who stored it; None if that was not recorded."""

    name: str
    revision: int
    recipe: str
    by: str | None
    at: datetime


async def record(connection: Connection, org_id: UUID, stored: RecipeRevision) -> None:
    """Keep a revision, and forget the one that is `KEPT` older."""
    await connection.execute(
        RECORD, org_id, stored.name, stored.revision, stored.recipe, stored.by, stored.at
    )
    await connection.execute(FORGET, org_id, stored.name, stored.revision - KEPT)


async def all_of(connection: Connection | Pool, org_id: UUID, name: str) -> list[dict[str, Any]]:
    """Return the revisions of a recipe that are kept, newest first, without their texts."""
    return [dict(row) for row in await connection.fetch(LIST, org_id, name, KEPT)]


async def text_of(
    connection: Connection | Pool, org_id: UUID, name: str, revision: int
) -> str | None:
    """Return the text of a revision; None if it is not kept."""
    return await connection.fetchval(TEXT, org_id, name, revision)
