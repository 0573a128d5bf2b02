"""What is known of a job and of a worker, as health keeps it. Values only."""

from dataclasses import dataclass
from datetime import datetime

from app.words import RunStatus


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the last runs of a job left behind. Instants are UTC; None is "not known".

    `last_run` is the end of the last finished run, however it ended. `interval_seconds` is the time
    between two ticks. `consecutive_failures` counts runs since the last one that was no failure.
    """

    job: str
    last_run: datetime | None = None
    last_success: datetime | None = None
    last_status: RunStatus | None = None
    next_run: datetime | None = None
    interval_seconds: float | None = None
    enabled: bool = True
    paused_at: datetime | None = None
    paused_by: str | None = None
    paused_note: str | None = None
    running_since: datetime | None = None
    last_error: str | None = None
    consecutive_failures: int | None = None
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself with each beat. `seen_at` is the beat's own instant, UTC."""

    seen_at: datetime
    started_at: datetime | None = None
    host: str | None = None
    running: int | None = None
