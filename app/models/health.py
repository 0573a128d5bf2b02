"""Health states and their flips, queued notifications, and metric totals."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Identity, Index, text
from sqlmodel import Field, SQLModel

from app.core.enums import AlertSeverity, JobStatus, TrendKind
from app.models.columns import instant, json, one_of
from app.models.orgs import org


class HealthStateRow(SQLModel, table=True):
    """The health status of a job when it was last judged. `sequence` counts its flips.

    `ill`: whether the status is unhealthy. `ill_since`: start of the present or the last unhealthy
    period. `told_at`: when it was first notified; null once the recovery was notified.
    `reminded_at`: when the last notification about it was queued. `acknowledged_…`: who has
    acknowledged it, when, why, and what its reason was then; `snoozed_until`: for how long.
    """

    __tablename__: ClassVar[Any] = "health_states"
    __table_args__ = (one_of("status", JobStatus, "health_states_status"),)

    key: str = Field(primary_key=True)
    status: str
    reason: str | None = None
    ill: bool
    since: datetime = Field(sa_column=instant())
    ill_since: datetime | None = Field(default=None, sa_column=instant(null=True))
    flipped_at: datetime = Field(sa_column=instant())
    sequence: int = Field(default=0, sa_type=BigInteger)
    told_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    reminded_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    acknowledged_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    acknowledged_by: str | None = None
    acknowledged_note: str | None = None
    acknowledged_reason: str | None = None
    snoozed_until: datetime | None = Field(default=None, sa_column=instant(null=True))


class HealthFlipRow(SQLModel, table=True):
    """A change of health status, written once however many processes judge."""

    __tablename__: ClassVar[Any] = "health_flips"
    __table_args__ = (Index("health_flips_at", "at"),)

    key: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=instant())
    before: str
    before_reason: str | None = None
    after: str
    after_reason: str | None = None
    since: datetime = Field(sa_column=instant())
    detail: str | None = None


class NotificationRow(SQLModel, table=True):
    """A message to one notifier (`channel`), retried until it is sent or given up.

    `incident`: what it is about, for notifiers that open and close incidents: the key of a job.
    `channel_id`: the alert channel of the organisation `org_id`; null for those of the operator.
    """

    __tablename__: ClassVar[Any] = "notifications"
    __table_args__ = (
        Index(
            "notifications_waiting",
            "next_try_at",
            postgresql_where=text("sent_at IS NULL AND given_up_at IS NULL"),
        ),
        Index("notifications_org", "org_id", postgresql_where=text("org_id IS NOT NULL")),
        Index(
            "notifications_channel",
            "channel_id",
            "id",
            postgresql_where=text("channel_id IS NOT NULL"),
        ),
        one_of("severity", AlertSeverity, "notifications_severity"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    channel: str
    title: str
    body: str
    severity: str = Field(default="failure", sa_column_kwargs={"server_default": "failure"})
    incident: str | None = None
    created_at: datetime = Field(sa_column=instant())
    next_try_at: datetime = Field(sa_column=instant())
    attempts: int = 0
    sent_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    given_up_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    last_error: str | None = None
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    channel_id: UUID | None = Field(
        default=None,
        sa_column=Column(ForeignKey("alert_channels.id", ondelete="CASCADE"), nullable=True),
    )


class MetricTotalRow(SQLModel, table=True):
    """A cumulative counter. Retention of the runs behind it does not change it."""

    __tablename__: ClassVar[Any] = "metric_totals"

    name: str = Field(primary_key=True)
    first: str = Field(primary_key=True)
    second: str = Field(primary_key=True)
    third: str = Field(primary_key=True)
    value: float


class MetricPendingRow(SQLModel, table=True):
    """An outcome that a database trigger recorded and that is not yet added to the totals.

    Either a run that ended (`execution_id`), or `count` ticks of a job with the same outcome.
    """

    __tablename__: ClassVar[Any] = "metric_pending"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    execution_id: UUID | None = None
    job: str | None = None
    outcome: str | None = None
    reason: str | None = None
    count: int = Field(default=1, sa_type=BigInteger)


class TrendRow(SQLModel, table=True):
    """What runs of a job or source that ended within `step` seconds from `at` on brought.

    `took`, `waited`: how many durations were in each bucket of `app/store/reports/trends.py`.
    """

    __tablename__: ClassVar[Any] = "trends"
    __table_args__ = (one_of("kind", TrendKind, "trends_kind"),)

    step: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    name: str = Field(primary_key=True)
    runs: int = Field(sa_type=BigInteger)
    failed: int = Field(sa_type=BigInteger)
    records: int = Field(sa_type=BigInteger)
    prices: int = Field(sa_type=BigInteger)
    changed: int = Field(sa_type=BigInteger)
    errors: int = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)
    took: dict[str, Any] = Field(sa_column=json())
    waited: dict[str, Any] = Field(sa_column=json())
