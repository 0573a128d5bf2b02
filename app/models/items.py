"""What is kept of sources between their runs: how far they have been read, and their own pace."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Float, Identity, Index
from sqlmodel import Field, SQLModel

from app.models.columns import instant
from app.models.orgs import org


class SourceCursorRow(SQLModel, table=True):
    """Up to where a partition of a source has been read: `value` is what its requests carry."""

    __tablename__: ClassVar[Any] = "source_cursors"
    __table_args__ = (
        Index(
            "source_cursors_key",
            "org_id",
            "source",
            "partition",
            unique=True,
            postgresql_nulls_not_distinct=True,
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
        Index(
            "source_paces_key",
            "org_id",
            "source",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    source: str
    interval_seconds: float = Field(sa_column=Column(Float, nullable=False))
    next_at: datetime = Field(sa_column=instant())
