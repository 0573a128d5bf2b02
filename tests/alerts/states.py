"""States of jobs as they are recorded, and what is reported of them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from app.core.enums import AlertSeverity, JobStatus
from app.health.alerts.compose import AlertPolicy, plan
from app.health.alerts.job_state import SCHEDULER, CurrentStates, JobState, RecordedState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = AlertPolicy(group=30, public_url="https://rollcall.test")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def ill(key: str, seconds: float, *, reported: float | None = None) -> RecordedState:
    return RecordedState(
        key=key,
        status="unhealthy",
        reason="no_workers" if key == SCHEDULER else "overdue",
        ill=True,
        since=ago(seconds),
        ill_since=ago(seconds),
        flipped_at=ago(seconds),
        sequence=1,
        told_at=None if reported is None else ago(reported),
        reminded_at=None,
    )


def well(key: str, seconds: float, *, was_ill: float | None = None) -> RecordedState:
    return RecordedState(
        key=key,
        status="healthy",
        reason=None,
        ill=False,
        since=ago(seconds),
        ill_since=None if was_ill is None else ago(was_ill),
        flipped_at=ago(seconds),
        sequence=2,
        told_at=None if was_ill is None else ago(was_ill),
        reminded_at=None,
    )


def seen(states: Iterable[RecordedState]) -> CurrentStates:
    return CurrentStates(
        NOW,
        {
            s.key: JobState(
                s.key, JobStatus(s.status), s.ill, s.since, s.reason, "it is silent", interval=300
            )
            for s in states
        },
    )


def reported(
    *states: RecordedState, policy: AlertPolicy = POLICY
) -> tuple[list[str], list[str], list[str]]:
    made = plan(seen(states), {s.key: s for s in states}, policy)
    failures, warnings, successes = (list(made.get(severity, ())) for severity in AlertSeverity)
    return failures, warnings, successes
