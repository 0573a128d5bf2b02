"""Queries for a collection run: the organisation's selection, its limits, and its run count."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.errors import LeaseLost
from app.store.db import Connection, Pool
from app.store.runs.attempt_rows import ClaimedRun


@dataclass(frozen=True, slots=True)
class CollectionSelection:
    """The preset and sources that an organisation has selected. `sources` is None without a preset.

    `limits`: its overrides of the limits in the settings.
    """

    limits: dict[str, Any]
    disabled_at: datetime | None
    preset: str | None
    sources: list[dict[str, Any]] | None


# LEFT JOINs: an organisation without a schedule or preset is still a row, with its limits.
SELECTION = """
SELECT o.limits, o.disabled_at, p.name AS preset, p.sources
FROM organizations o
LEFT JOIN schedules s ON s.org_id = o.id AND s.key = $2
LEFT JOIN collection_presets p ON p.id = s.preset_id
WHERE o.id = $1
"""

# A run that was refused before it made any request does not count, nor one that was made after $3.
COUNT_RUNS = """
SELECT count(*) FROM runs r
WHERE org_id = $1 AND created_at >= $2
  AND ($3::uuid IS NULL OR (created_at, execution_id) < (
    SELECT created_at, execution_id FROM runs WHERE execution_id = $3))
  AND (error_type IS DISTINCT FROM 'over_limit'
       OR EXISTS (SELECT FROM run_sources s WHERE s.execution_id = r.execution_id))
"""

# Kept by triggers on items.
USAGE = "SELECT rows, bytes FROM org_usage WHERE org_id = $1"

# Only the holder of the lease may change what further attempts collect.
SAVE_PARAMS = """
UPDATE runs SET params = $3 WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
"""

# Queued ones as well: an organisation that is disabled must not start them later.
OPEN_RUNS = "SELECT execution_id FROM runs WHERE org_id = $1 AND status IN ('queued', 'running')"


async def read_selection(
    connection: Pool | Connection, org_id: UUID, key: str
) -> CollectionSelection | None:
    """Return what the organisation's schedule `key` collects; None if there is no organisation."""
    row = await connection.fetchrow(SELECTION, org_id, key)
    return None if row is None else CollectionSelection(*row)


async def runs_since(
    connection: Pool | Connection, org_id: UUID, since: datetime, *, before: UUID | None = None
) -> int:
    """Count the organisation's runs since `since`, up to the run `before`, without refused ones."""
    return await connection.fetchval(COUNT_RUNS, org_id, since, before)


async def usage(connection: Pool | Connection, org_id: UUID) -> tuple[int, int]:
    """The number of items that the organisation keeps, and their bytes."""
    row = await connection.fetchrow(USAGE, org_id)
    return (0, 0) if row is None else (row["rows"], row["bytes"])


async def save_params(
    connection: Pool | Connection, claimed: ClaimedRun, params: dict[str, Any]
) -> None:
    """Store the run's resolved parameters for its further attempts. Raises LeaseLost."""
    tag = await connection.execute(SAVE_PARAMS, claimed.run_id, claimed.epoch, params)
    if tag != "UPDATE 1":
        raise LeaseLost(claimed.run_id)


async def open_runs(connection: Pool | Connection, org_id: UUID) -> Sequence[UUID]:
    """Return the ids of the organisation's queued and running runs."""
    return [row["execution_id"] for row in await connection.fetch(OPEN_RUNS, org_id)]
