"""Runs with their events, sources and rejected records, and heartbeats of workers."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from app.core.enums import RunStatus, Trigger
from app.models.columns import instant, json, one_of
from app.models.orgs import org


def _execution(*, primary_key: bool = False) -> Column[Any]:
    link = ForeignKey("runs.execution_id", ondelete="CASCADE")
    return Column("execution_id", link, primary_key=primary_key, nullable=False)


class RunRow(SQLModel, table=True):
    """One run. `lease_epoch` grows with every claim and fences off earlier attempts.

    `attempt` is part of the id of the arq job that may claim it. `losses` counts attempts whose
    worker died and executed nothing else, `suspicions` those whose worker executed other runs
    too, `retries` those that failed and were repeated.
    """

    __tablename__: ClassVar[Any] = "runs"
    __table_args__ = (
        one_of("status", RunStatus, "runs_status"),
        one_of("trigger", Trigger, "runs_trigger"),
        Index("runs_job_created", "job", "created_at"),
        Index("runs_schedule_created", "schedule_id", "created_at"),
        Index(
            "runs_org",
            "org_id",
            text("created_at DESC"),
            "execution_id",
            postgresql_where=text("org_id IS NOT NULL"),
        ),
        Index("runs_created", "created_at"),
        # Lists of runs that ended without success, or that people requested, read no others. It has
        # no open runs: if statistics call it empty, it would be read whole for each of them.
        Index(
            "runs_unsuccessful",
            "created_at",
            postgresql_where=text("status NOT IN ('success', 'queued', 'running')"),
        ),
        Index("runs_requested", "created_at", postgresql_where=text("trigger <> 'scheduled'")),
        Index("runs_backfill", "backfill_id", postgresql_where=text("backfill_id IS NOT NULL")),
        Index("runs_open", "schedule_id", postgresql_where=text("status IN ('queued', 'running')")),
        Index("runs_leases", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("runs_waiting", "queued_at", postgresql_where=text("status = 'queued'")),
        Index(
            "runs_one_per_tick",
            "schedule_id",
            "scheduled_for",
            unique=True,
            postgresql_where=text("trigger = 'scheduled'"),
        ),
    )

    execution_id: UUID = Field(primary_key=True)
    job: str
    schedule_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, ForeignKey("schedules.id", ondelete="SET NULL"))
    )
    scheduled_for: datetime | None = Field(default=None, sa_column=instant(null=True))
    trigger: str
    requested_by: str | None = None
    params: dict[str, Any] = Field(sa_column=json())
    status: str
    attempt: int = 1
    losses: int = 0
    suspicions: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
    max_attempts: int = 3
    timeout_seconds: float = 240
    lease_epoch: int = Field(default=0, sa_type=BigInteger)
    lease_expires_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    worker: str | None = None
    queued_at: datetime = Field(sa_column=instant())
    not_before: datetime | None = Field(default=None, sa_column=instant(null=True))
    deferrals: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
    retries: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
    started_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    completed_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    duration_seconds: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    stats: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=instant(default_now=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    backfill_id: UUID | None = None


class RunEventRow(SQLModel, table=True):
    """One event in the life of a run."""

    __tablename__: ClassVar[Any] = "run_events"
    __table_args__ = (Index("run_events_run", "execution_id"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    execution_id: UUID = Field(sa_column=_execution())
    at: datetime = Field(sa_column=instant())
    event: str
    attempt: int
    worker: str | None = None
    detail: str | None = None


class RunSourceRow(SQLModel, table=True):
    """One source of a run. The next attempt resumes from `done` and `done_counts`.

    `coverage`: how many rows were read, and for each field how many of them lack it.
    """

    __tablename__: ClassVar[Any] = "run_sources"

    execution_id: UUID = Field(sa_column=_execution(primary_key=True))
    source: str = Field(primary_key=True)
    status: str
    partitions: int = 0
    partitions_failed: int = 0
    pages: int = 0
    records: int = 0
    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    bytes: int = Field(default=0, sa_type=BigInteger)
    throttled_ms: int = Field(default=0, sa_type=BigInteger)
    counts: dict[str, Any] = Field(sa_column=json())
    duration_seconds: float = 0
    error_kind: str | None = None
    error_message: str | None = None
    errors: dict[str, Any] = Field(sa_column=json())
    done: list[str] = Field(
        sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'"))
    )
    done_counts: dict[str, Any] = Field(sa_column=json())
    coverage: dict[str, Any] = Field(sa_column=json())


class RunKeysRow(SQLModel, table=True):
    """The keys of a partition that an unfinished run has read, for its next attempt.

    `places`: MessagePack of the page and the content hash of each key.
    """

    __tablename__: ClassVar[Any] = "run_keys"

    execution_id: UUID = Field(sa_column=_execution(primary_key=True))
    source: str = Field(primary_key=True)
    partition: str = Field(primary_key=True)
    places: bytes = Field(sa_type=LargeBinary)


class RejectedRow(SQLModel, table=True):
    """A record that could not be parsed, in its raw form, with the reason and its page."""

    __tablename__: ClassVar[Any] = "rejected_records"
    __table_args__ = (
        Index("rejected_records_run", "execution_id"),
        Index("rejected_records_created", "created_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    execution_id: UUID = Field(sa_column=_execution())
    source: str
    partition: str
    page: int
    record_id: str | None = None
    reason: str
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant(default_now=True))


class WorkerBeatRow(SQLModel, table=True):
    """An interval in which a worker sent heartbeats. The evidence for `scheduler_down`.

    `jumped`: the clock jumped forward right before the interval.
    """

    __tablename__: ClassVar[Any] = "worker_beats"
    __table_args__ = (Index("worker_beats_until", "until"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    worker: str
    since: datetime = Field(sa_column=instant())
    until: datetime = Field(sa_column=instant())
    jumped: bool = False
