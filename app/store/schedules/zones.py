"""Statements for zone data: every version that a schedule was derived with is kept.

A process adds the versions that it lacks to `app.core.zone_data`, so that whatever its own wheel
holds it derives the ticks of a stored schedule as they were derived when it was stored.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from app.core import log, zone_data
from app.store.db import Connection, Pool

# Read when a schedule has a stamp that this process does not know.
DATA = """
SELECT zone, stamp, data FROM zone_data
WHERE (zone, stamp) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""

# Stored data is never replaced: a stamp names the same data in every process.
SAVE = """
INSERT INTO zone_data (zone, stamp, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""

# Every stored version, without its data.
STAMPS = 'SELECT zone, max(stamp COLLATE "C") FROM zone_data GROUP BY zone'

# Stamps are compared byte by byte, as Python compares them, whatever the database's collation.
NEWEST = 'SELECT max(stamp COLLATE "C") FROM zone_data WHERE zone = $1'

# The stamps in use, one index probe each: there may be a hundred thousand schedules.
IN_USE = """
WITH RECURSIVE used AS (
  (SELECT zone_data AS stamp FROM schedules WHERE retired_at IS NULL AND zone_data IS NOT NULL
   ORDER BY zone_data LIMIT 1)
  UNION ALL
  SELECT (SELECT zone_data FROM schedules WHERE retired_at IS NULL AND zone_data > used.stamp
          ORDER BY zone_data LIMIT 1)
  FROM used WHERE used.stamp IS NOT NULL
)
SELECT stamp FROM used WHERE stamp IS NOT NULL
"""

# By the index on `zone_data` of active schedules; $2 names the versions that were tried already.
DERIVED_WITH = """
SELECT key || ' ' || version, key, spec ->> 'timezone', zone_data FROM schedules
WHERE zone_data = ANY ($1::text[]) AND retired_at IS NULL
  AND key || ' ' || version <> ALL ($2::text[])
ORDER BY due_at LIMIT $3
"""

# Version and schedule in one statement, so that the two stamps never differ.
RESTAMP = """
WITH stamped AS (
  UPDATE schedule_versions SET zone_data = $3 WHERE schedule_id = $1 AND version = $2
)
UPDATE schedules SET zone_data = $3, next_tick_at = $4, due_at = $5 WHERE id = $1
"""

_log = log.logger(__name__)


async def ensure(
    connection: Pool | Connection, derived: Iterable[tuple[Mapping[str, Any], str | None]]
) -> None:
    """Add the zone data of these stored schedules, (spec, stamp) each, where this process lacks it.

    A stamp whose data is not stored, or is not valid, is left out.
    """
    missing = {
        (zone, stamp)
        for spec, stamp in derived
        if stamp and (zone := _zone_of(spec)) and not zone_data.is_known(zone, stamp)
    }
    if not missing:
        return
    zones, stamps = zip(*sorted(missing), strict=True)
    for row in await connection.fetch(DATA, list(zones), list(stamps)):
        try:
            zone_data.add(*row)
        except ValueError as error:
            _log.error("zone_data.invalid", zone=row[0], stamp=row[1], error=str(error))


def _zone_of(spec: Mapping[str, Any]) -> str | None:
    zone = spec.get("timezone", "UTC") if isinstance(spec, dict) else None
    return zone if isinstance(zone, str) else None


async def newest(connection: Connection, zone: str) -> str:
    """Return the newest stamp of a zone, of the stored versions and this process's wheel.

    The data of it is stored, and added to this process. Raises OSError or ValueError if there is no
    such zone.
    """
    ours = zone_data.wheel_stamp(zone)
    stored: str | None = await connection.fetchval(NEWEST, zone)
    if stored is None or stored < ours:
        await connection.execute(SAVE, zone, ours, zone_data.wheel_data(zone))
        return ours
    await ensure(connection, [({"timezone": zone}, stored)])
    return stored


async def newest_known(pool: Pool | Connection, zone: str) -> str:
    """Return what `newest` returns, and store nothing; `UNKNOWN_STAMP` if there is no such zone."""
    stored: str | None = await pool.fetchval(NEWEST, zone)
    stamp = max(stored or zone_data.UNKNOWN_STAMP, _wheel_stamp(zone))
    await ensure(pool, [({"timezone": zone}, stamp)])
    return stamp


async def outdated(pool: Pool, excluded: list[str], limit: int) -> list[tuple[str, str]]:
    """Return schedules derived with older zone data than there is, as (version key, key).

    The next due first, at most `limit` of them, without the version keys `excluded`.
    """
    newest_stamps = {row[0]: max(row[1], _wheel_stamp(row[0])) for row in await pool.fetch(STAMPS)}
    in_use = [row[0] for row in await pool.fetch(IN_USE)]
    candidates = sorted(set(in_use) - set(newest_stamps.values()))
    rows = await pool.fetch(DERIVED_WITH, candidates, excluded, limit) if candidates else []
    return [
        (row[0], row[1])
        for row in rows
        if row[3] < (newest_stamps.get(row[2]) or _wheel_stamp(row[2]))
    ]


def _wheel_stamp(zone: str | None) -> str:
    try:
        return zone_data.wheel_stamp(zone or "UTC")
    except (OSError, ValueError):
        return zone_data.UNKNOWN_STAMP


async def ahead_of_wheel(pool: Pool) -> list[str]:
    """Return the zones of which a newer version is stored than this process's wheel holds."""
    return [row[0] for row in await pool.fetch(STAMPS) if row[1] > _wheel_stamp(row[0])]


async def restamp(
    connection: Connection,
    schedule_id: int,
    version: int,
    stamp: str,
    upcoming: tuple[datetime, datetime],
) -> None:
    """Record other zone data that names the same ticks. `upcoming`: the next tick and its start."""
    await connection.execute(RESTAMP, schedule_id, version, stamp, *upcoming)
