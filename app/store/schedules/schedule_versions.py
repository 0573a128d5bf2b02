"""Statements that change schedules: creation, new versions, retirement, pauses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.core.enums import TickOutcome, TickReason, VersionReason
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection
from app.store.schedules.schedule_rows import ScheduleState


@dataclass(frozen=True, slots=True)
class ScheduleVersion:
    """A schedule version in force from `since` on, its first tick, and why it was made.

    `enabled`: None leaves it as it is.
    """

    key: str
    job: str
    schedule: Schedule
    policies: Policies
    enabled: bool | None
    since: datetime
    next_tick_at: datetime
    due_at: datetime
    reason: VersionReason
    org_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class SchedulePause:
    """Since when, by whom and why a schedule is paused, and until when, if it ends by itself."""

    at: datetime
    by: str
    note: str
    until: datetime | None = None

    def as_json(self) -> dict[str, str]:
        """What an edit notes of it."""
        note = {"note": self.note}
        return note if self.until is None else note | {"until": self.until.isoformat()}


# Nothing before its creation is due: the frontier starts at the first version's beginning.
CREATE = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                       evaluated_through, next_tick_at, due_at, org_id, zone_data)
VALUES ($1, $2, $3, $4, '{}', 1, $6, $5, $6, $7, $8, $9, $10)
ON CONFLICT (key) DO NOTHING RETURNING id
"""

# A separate statement: the row-level security policy must see the new schedule row.
FIRST_VERSION = """
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from,
                               zone_data, reason)
VALUES ($1, 1, $2, $3, $4, $5, $6)
"""

# One statement: a version never ends without an outcome for each tick that it still had.
CLOSE = """
WITH closed AS (
  UPDATE schedule_versions SET answers_until = $3 WHERE schedule_id = $1 AND version = $2
)
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)
SELECT $1, tick, $2, outcome, reason, $4
FROM unnest($5::timestamptz[], $6::text[], $7::text[]) AS t (tick, outcome, reason)
"""

# Inserts the version and copies it to `schedules`, which workers read, in one statement.
OPEN = """
WITH opened AS (
  INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from,
                                 zone_data, reason)
  VALUES ($1, $2, $3, $4, $6, $9, $10)
)
UPDATE schedules SET version = $2, spec = $3, policies = $4, enabled = coalesce($5, enabled),
                     effective_from = $6, evaluated_through = $6, next_tick_at = $7, due_at = $8,
                     retired_at = NULL, zone_data = $9
WHERE id = $1
"""

# Without `due_at` the schedule is out of the index of what is due. A pause ends with it.
RETIRE = """
UPDATE schedules SET retired_at = $2, next_tick_at = NULL, due_at = NULL, enabled = false,
                     paused_at = NULL, paused_by = NULL, paused_note = NULL,
                     paused_until = NULL,
                     evaluated_through = greatest(evaluated_through, $3)
WHERE id = $1
"""

# Only future ticks: the new version may have some of them as well, which are then reopened.
SUPERSEDED_AHEAD = """
SELECT scheduled_for FROM ticks
WHERE schedule_id = $1 AND scheduled_for > $2 AND reason = 'superseded'
"""

# A future tick that the new version has as well: its `superseded` outcome is deleted.
REOPEN_TICKS = """
WITH reopened AS (
  DELETE FROM ticks WHERE schedule_id = $1 AND scheduled_for = ANY ($2::timestamptz[])
  RETURNING version
)
UPDATE schedule_versions v SET answers_until = later.effective_from
FROM schedule_versions later
WHERE v.schedule_id = $1 AND v.version IN (SELECT version FROM reopened)
  AND later.schedule_id = v.schedule_id AND later.version = v.version + 1
"""

# Pausing and resuming: all four columns are set together, to values or to null.
PAUSE = """
UPDATE schedules SET paused_at = $2, paused_by = $3, paused_note = $4, paused_until = $5
WHERE key = $1
"""


async def create(connection: Connection, version: ScheduleVersion) -> None:
    """Insert a new schedule with its first version; does nothing if the key exists.

    Requires a transaction.
    """
    schedule_id = await connection.fetchval(
        CREATE,
        version.key,
        version.job,
        version.schedule.to_spec(),
        version.policies.to_spec(),
        version.enabled,
        version.since,
        version.next_tick_at,
        version.due_at,
        version.org_id,
        version.schedule.stamp,
    )
    if schedule_id is not None:
        await connection.execute(
            FIRST_VERSION,
            schedule_id,
            version.schedule.to_spec(),
            version.policies.to_spec(),
            version.since,
            version.schedule.stamp,
            version.reason,
        )


async def close(
    connection: Connection,
    state: ScheduleState,
    superseded: Sequence[datetime],
    answers_until: datetime,
    now: datetime,
    unreadable: Sequence[datetime] = (),
) -> None:
    """Close the version in force; its last ticks are `superseded`, or missed while `unreadable`."""
    ticks = [
        *((tick, TickOutcome.SKIPPED, TickReason.SUPERSEDED) for tick in superseded),
        *((tick, TickOutcome.MISSED, TickReason.UNREADABLE) for tick in unreadable),
    ]
    await connection.execute(
        CLOSE,
        state.id,
        state.version,
        answers_until,
        now,
        [tick for tick, _, _ in ticks],
        [outcome.value for _, outcome, _ in ticks],
        [reason.value for _, _, reason in ticks],
    )


async def retire(
    connection: Connection, schedule_id: int, now: datetime, through: datetime | None = None
) -> None:
    """Retire a schedule whose version in force is closed. `through`: its new frontier."""
    await connection.execute(RETIRE, schedule_id, now, through)


async def reopen(connection: Connection, state: ScheduleState, version: ScheduleVersion) -> None:
    """Open the next version, also of a retired schedule."""
    await connection.execute(
        OPEN,
        state.id,
        state.version + 1,
        version.schedule.to_spec(),
        version.policies.to_spec(),
        version.enabled,
        version.since,
        version.next_tick_at,
        version.due_at,
        version.schedule.stamp,
        version.reason,
    )


async def superseded_ahead(
    connection: Connection, schedule_id: int, since: datetime
) -> list[datetime]:
    """Return the ticks after `since` that an earlier edit recorded as superseded."""
    rows = await connection.fetch(SUPERSEDED_AHEAD, schedule_id, since)
    return [row["scheduled_for"] for row in rows]


async def reopen_ticks(
    connection: Connection, schedule_id: int, instants: Sequence[datetime]
) -> None:
    """Delete the outcomes of future ticks that the new version has as well."""
    if instants:
        await connection.execute(REOPEN_TICKS, schedule_id, list(instants))


async def set_enabled(connection: Connection, schedule_id: int, *, enabled: bool) -> None:
    """Enable or disable a schedule; its ticks are recorded either way."""
    await connection.execute(
        "UPDATE schedules SET enabled = $2 WHERE id = $1", schedule_id, enabled
    )


async def set_pause(connection: Connection, key: str, pause: SchedulePause | None) -> None:
    """Pause the schedule, or with None resume it."""
    if pause is None:
        await connection.execute(PAUSE, key, None, None, None, None)
    else:
        await connection.execute(PAUSE, key, pause.at, pause.by, pause.note, pause.until)
