"""Changes of items and runs, and the clock that orders them."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    PrimaryKeyConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from app.core.enums import ChangeKind
from app.models.columns import instant, json, one_of


class ChangeClockRow(SQLModel, table=True):
    """One row: what positions begin with, and the last position that retention has dropped.

    `base` grows when the server is another one, after a restored dump, whose transactions may have
    smaller ids. `system`: the server's own identifier.
    """

    __tablename__: ClassVar[Any] = "change_clock"
    __table_args__ = (CheckConstraint("id", name="change_clock_single"),)

    id: bool = Field(sa_column=Column(Boolean, primary_key=True, autoincrement=False))
    base: int = Field(sa_column=Column(BigInteger, nullable=False))
    dropped_through: int = Field(sa_column=Column(BigInteger, nullable=False))
    system: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))


class ChangeRow(SQLModel, table=True):
    """One change of an item or of a run's status. Append-only, partitioned by month.

    `position`: that of its transaction; readers take those below the oldest open transaction.
    `fields`: only what moved, as {"name": {"from": …, "to": …}}; null for a new item.
    """

    __tablename__: ClassVar[Any] = "changes"
    __table_args__ = (
        one_of("kind", ChangeKind, "changes_kind"),
        PrimaryKeyConstraint("position", "id", "at", name="changes_path"),
        Index("changes_feed", "org_id", "position", "id"),
        Index("changes_history", "org_id", "key", "id", postgresql_where=text("key IS NOT NULL")),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), nullable=False))
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    org_id: UUID | None = None
    at: datetime = Field(sa_column=instant())
    kind: str
    source: str | None = None
    key: str | None = None
    run_id: UUID | None = None
    fields: dict[str, Any] | None = Field(default=None, sa_column=json(None))
