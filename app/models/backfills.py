"""Backfills: requests to run past ticks of a schedule again, enqueued a few at a time."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Index, text
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json


class BackfillRow(SQLModel, table=True):
    """One backfill request: schedule, range of ticks, requester.

    `id` is derived from the schedule and the name, so that a repeated request is the same row.
    `ticks`: those to run, of which the first `fed` have their run. `concurrency`: runs open at the
    same time.
    """

    __tablename__: ClassVar[Any] = "backfills"
    __table_args__ = (
        CheckConstraint("since <= until", name="backfills_order"),
        Index("backfills_schedule", "schedule_id", "created_at"),
        Index("backfills_open", "created_at", postgresql_where=text("completed_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    schedule_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False)
    )
    name: str
    since: datetime = Field(sa_column=instant())
    until: datetime = Field(sa_column=instant())
    total: int
    params: dict[str, Any] = Field(sa_column=json())
    requested_by: str
    created_at: datetime = Field(sa_column=instant())
    completed_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    ticks: list[datetime] = Field(
        sa_column=Column(
            ARRAY(DateTime(timezone=True)), nullable=False, server_default=text("'{}'")
        )
    )
    fed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    concurrency: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    stopped_by: str | None = None
    reason: str | None = None
