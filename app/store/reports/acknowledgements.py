"""Statements for alerts that a person has acknowledged or snoozed, and for the list of alerts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.db import Connection, Pool
from app.store.reports.alerts import JUDGE_LOCK

# A pass of alerting reads the states and marks what it reported: neither may be lost in between.
LOCK = "SELECT pg_advisory_xact_lock($1)"

# Not of an organisation's collection, of which the operator gets no alert.
ACKNOWLEDGE = """
UPDATE health_states
SET acknowledged_at = $2, acknowledged_by = $3, acknowledged_note = $4,
    acknowledged_reason = coalesce(reason, status), snoozed_until = $5
WHERE key = $1 AND ill AND NOT starts_with(key, 'collection:') RETURNING reason
"""

# The row returned tells an alert that was acknowledged from one that was not.
RELEASE = """
UPDATE health_states
SET acknowledged_at = NULL, acknowledged_by = NULL, acknowledged_note = NULL,
    acknowledged_reason = NULL, snoozed_until = NULL
WHERE key = $1 AND acknowledged_at IS NOT NULL RETURNING key
"""

# `detail` is that of the last flip. Organisations are told about their collections themselves.
OPEN = """
SELECT h.key, h.status, h.reason, h.since, h.ill_since, h.told_at, h.reminded_at,
       h.acknowledged_at, h.acknowledged_by, h.acknowledged_note, h.acknowledged_reason,
       h.snoozed_until, f.detail
FROM health_states h LEFT JOIN health_flips f ON f.key = h.key AND f.sequence = h.sequence
WHERE h.ill AND NOT starts_with(h.key, 'collection:') ORDER BY h.ill_since, h.key LIMIT $1
"""

# By the index on `at`. Organisations are told about their collections themselves.
FLIPS = """
SELECT key, at, before, before_reason, after, after_reason, detail FROM health_flips
WHERE NOT starts_with(key, 'collection:') ORDER BY at DESC, key LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Who acknowledged an alert, when and why. `until`: the end of a snooze."""

    at: datetime
    by: str
    note: str
    until: datetime | None = None


async def lock(connection: Connection) -> None:
    """Keep passes of alerting out until the transaction ends."""
    await connection.execute(LOCK, JUDGE_LOCK)


async def acknowledge(connection: Connection, key: str, acknowledged: Acknowledged) -> bool:
    """Record it with the present reason; false if the operator has no such alert."""
    row = await connection.fetchrow(
        ACKNOWLEDGE, key, acknowledged.at, acknowledged.by, acknowledged.note, acknowledged.until
    )
    return row is not None


async def release(connection: Connection, key: str) -> bool:
    """Remove it; false if the alert is not acknowledged."""
    return await connection.fetchval(RELEASE, key) is not None


async def open_alerts(connection: Pool | Connection, limit: int) -> list[dict[str, Any]]:
    """The operator's alerts that have not recovered, the oldest first, as plain rows."""
    return [dict(row) for row in await connection.fetch(OPEN, limit)]


async def flips(connection: Pool | Connection, limit: int) -> list[dict[str, Any]]:
    """The last changes of health of the operator's jobs, newest first, as plain rows."""
    return [dict(row) for row in await connection.fetch(FLIPS, limit)]
