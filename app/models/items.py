"""State that sources keep between runs: partition cursors and automatic intervals."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Float, Identity, Index
from sqlmodel import Field, SQLModel

from app.models.columns import instant
from app.models.orgs import org


class SourceCursorRow(SQLModel, table=True):
    """The cursor of one partition of a source. `value` is what the next request carries."""

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
    """The present interval of a source with `every = "auto"`, and when it is next due."""

    __tablename__: ClassVar[Any] = "source_paces"
    __table_args__ = (
        Index(
            "source_paces_key", "org_id", "source", unique=True, postgresql_nulls_not_distinct=True
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    source: str
    interval_seconds: float = Field(sa_column=Column(Float, nullable=False))
    next_at: datetime = Field(sa_column=instant())
