"""What a collection's run goes by: what its organisation has chosen, and how much it has had."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import Fenced
from app.store.db import Connection, Pool
from app.store.runs import Claimed


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an organisation has chosen to collect. Without a preset, `sources` are None.

    `limits`: its own, where they differ from the settings.
    """

    limits: dict[str, Any]
    disabled_at: datetime | None
    preset: str | None
    sources: list[dict[str, Any]] | None


CHOSEN = """
SELECT o.limits, o.disabled_at, p.name AS preset, p.sources
FROM organizations o
LEFT JOIN schedules s ON s.org_id = o.id
LEFT JOIN collection_presets p ON p.id = s.preset_id
WHERE o.id = $1
"""

# A run that was refused before it asked anybody for anything does not count.
COUNT = """
SELECT count(*) FROM runs r
WHERE org_id = $1 AND created_at >= $2 AND execution_id IS DISTINCT FROM $3
  AND (error_type IS DISTINCT FROM 'over_limit'
       OR EXISTS (SELECT FROM run_sources s WHERE s.execution_id = r.execution_id))
"""

SETTLE = """
UPDATE runs SET params = $3 WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
"""

OPEN = "SELECT execution_id FROM runs WHERE org_id = $1 AND status IN ('queued', 'running')"


async def look(connection: Pool | Connection, org_id: UUID) -> Chosen | None:
    """What the organisation collects; None if there is no such organisation."""
    row = await connection.fetchrow(CHOSEN, org_id)
    return None if row is None else Chosen(*row)


async def runs_since(
    connection: Pool | Connection, org_id: UUID, since: datetime, *, besides: UUID | None = None
) -> int:
    """How many runs an organisation has had since then, not counting those that were refused."""
    return await connection.fetchval(COUNT, org_id, since, besides)


async def settle(connection: Pool | Connection, claimed: Claimed, params: dict[str, Any]) -> None:
    """Write down what the run does, so that its next attempt does the same. Raises Fenced."""
    done = await connection.execute(SETTLE, claimed.run_id, claimed.epoch, params)
    if done != "UPDATE 1":
        raise Fenced(f"run {claimed.run_id} belongs to another attempt")


async def open_runs(connection: Pool | Connection, org_id: UUID) -> Sequence[UUID]:
    """The runs of an organisation that are queued or running."""
    return [row["execution_id"] for row in await connection.fetch(OPEN, org_id)]
