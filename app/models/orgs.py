"""Organisations: who they are, what they hold, and what they chose to collect."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json, one_of
from app.words import Scope

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"  # stands for null where null must be unique


def org(*, null: bool = False, primary: bool = False) -> Column[Any]:
    """The organisation a row belongs to; null is the house itself."""
    link = ForeignKey("organizations.id", ondelete="CASCADE")
    return Column("org_id", link, nullable=null, primary_key=primary)


class OrganizationRow(SQLModel, table=True):
    """An organisation. `limits` are those of the settings which it has otherwise."""

    __tablename__: ClassVar[Any] = "organizations"

    id: UUID = Field(primary_key=True)
    name: str = Field(unique=True)
    limits: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=instant(default_now=True))
    disabled_at: datetime | None = Field(default=None, sa_column=instant(null=True))


class ApiTokenRow(SQLModel, table=True):
    """A token. Only the SHA-256 of its secret is kept: 256 random bits need no slow hash."""

    __tablename__: ClassVar[Any] = "api_tokens"
    __table_args__ = (
        one_of("scope", Scope, "api_tokens_scope"),
        Index("api_tokens_org", "org_id"),
    )

    id: UUID = Field(primary_key=True)
    org_id: UUID = Field(sa_column=org())
    label: str
    scope: str
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant(default_now=True))
    created_by: str | None = None
    expires_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    revoked_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    last_used_at: datetime | None = Field(default=None, sa_column=instant(null=True))


class CollectionPresetRow(SQLModel, table=True):
    """A named set of sources with parameters. Without an organisation it is built in."""

    __tablename__: ClassVar[Any] = "collection_presets"
    __table_args__ = (
        Index("collection_presets_name", text(f"coalesce(org_id, {NOBODY})"), "name", unique=True),
    )

    id: UUID = Field(primary_key=True)
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    name: str
    sources: list[dict[str, Any]] = Field(sa_column=json("[]"))
    revision: int = Field(default=1)
    created_at: datetime = Field(sa_column=instant(default_now=True))
    updated_at: datetime = Field(sa_column=instant(default_now=True))


class ScheduleEditRow(SQLModel, table=True):
    """Who changed a schedule, when, from what to what."""

    __tablename__: ClassVar[Any] = "schedule_edits"
    __table_args__ = (Index("schedule_edits_schedule", "schedule_id", "at"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    schedule_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("schedules.id", ondelete="CASCADE"), nullable=False)
    )
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    at: datetime = Field(sa_column=instant())
    by: str
    action: str
    before: dict[str, Any] | None = Field(default=None, sa_column=json(None))
    after: dict[str, Any] | None = Field(default=None, sa_column=json(None))


class ItemRow(SQLModel, table=True):
    """A generic record: what one source calls `key`, as it was last seen.

    `changed_at` moves only when the content does; `missing_since` is set by a listing without it.
    `series`: what the source itself calls it, where every observation is a row of its own.
    """

    __tablename__: ClassVar[Any] = "items"
    __table_args__ = (
        # Plain columns: behind row-level security no expression on them is looked up in an index.
        Index(
            "items_key",
            *("org_id", "source", "key"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("items_changed", "org_id", text("changed_at DESC"), text("id DESC")),
        Index(
            "items_series",
            "org_id",
            "source",
            "series",
            text("id DESC"),
            postgresql_where=text("series IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    source: str
    key: str
    series: str | None = None
    data: dict[str, Any] = Field(sa_column=json())
    content_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    first_seen: datetime = Field(sa_column=instant())
    last_seen: datetime = Field(sa_column=instant())
    changed_at: datetime = Field(sa_column=instant())
    missing_since: datetime | None = Field(default=None, sa_column=instant(null=True))
    run_id: UUID | None = None
