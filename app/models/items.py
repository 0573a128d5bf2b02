"""What is kept of sources between their runs: how far they have been read, and their own pace."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Float, Identity, Index, text
from sqlmodel import Field, SQLModel

from app.models.columns import instant
from app.models.orgs import NOBODY, org


class SourceCursorRow(SQLModel, table=True):
    """Up to where a partition of a source has been read: `value` is what its requests carry."""

    __tablename__: ClassVar[Any] = "source_cursors"
    __table_args__ = (
        Index(
            "source_cursors_key",
            text(f"coalesce(org_id, {NOBODY})"),
            "source",
            "partition",
            unique=True,
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    source: str
    partition: str
    value: str
    moved_at: datetime = Field(sa_column=instant())
    run_id: UUID | None = None


class SourcePaceRow(SQLModel, table=True):
    """When a source that goes by its own pace (`every = "auto"`) is to be asked next."""

    __tablename__: ClassVar[Any] = "source_paces"
    __table_args__ = (
        Index("source_paces_key", text(f"coalesce(org_id, {NOBODY})"), "source", unique=True),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    source: str
    interval_seconds: float = Field(sa_column=Column(Float, nullable=False))
    next_at: datetime = Field(sa_column=instant())
