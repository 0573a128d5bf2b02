"""What health keeps: how each job stood last, what flipped, what is to be told, and the totals."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index, text
from sqlmodel import Field, SQLModel

from app.models.columns import instant, one_of
from app.words import JobStatus


class HealthStateRow(SQLModel, table=True):
    """How a job stood when it was last judged. `sequence` counts its flips.

    `told_at`: when somebody was first told that it is ill; none once its recovery has been told.
    `reminded_at`: when somebody was last told so. `ill_since`: of the present or the last illness.
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


class HealthFlipRow(SQLModel, table=True):
    """A change of state, written once however many processes watch."""

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
    """A message to one notifier, kept until it is sent or too old. `channel` names the notifier."""

    __tablename__: ClassVar[Any] = "notifications"
    __table_args__ = (
        Index(
            "notifications_waiting",
            "next_try_at",
            postgresql_where=text("sent_at IS NULL AND given_up_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    channel: str
    title: str
    body: str
    created_at: datetime = Field(sa_column=instant())
    next_try_at: datetime = Field(sa_column=instant())
    attempts: int = 0
    sent_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    given_up_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    last_error: str | None = None


class MetricTotalRow(SQLModel, table=True):
    """A counter, for ever: pruning the runs behind it changes nothing."""

    __tablename__: ClassVar[Any] = "metric_totals"

    name: str = Field(primary_key=True)
    first: str = Field(primary_key=True)
    second: str = Field(primary_key=True)
    third: str = Field(primary_key=True)
    value: float


class MetricPendingRow(SQLModel, table=True):
    """What a trigger noted in the transaction of an outcome, until it is added to the totals.

    A run that ended, by its id; or `count` ticks of a job with the same outcome.
    """

    __tablename__: ClassVar[Any] = "metric_pending"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    execution_id: UUID | None = None
    job: str | None = None
    outcome: str | None = None
    reason: str | None = None
    count: int = Field(default=1, sa_type=BigInteger)
