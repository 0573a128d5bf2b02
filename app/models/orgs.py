"""Organisations with their API tokens, presets, schedule edits and items."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, LargeBinary, false, text
from sqlmodel import Field, SQLModel

from app.core.enums import Scope
from app.models.columns import instant, json, one_of, page_order

NULL_ORG = "'00000000-0000-0000-0000-000000000000'::uuid"  # replaces null in a unique index


def org(*, null: bool = False, primary: bool = False) -> Column[Any]:
    """Return an `org_id` column: the organisation that owns the row; null is the operator."""
    link = ForeignKey("organizations.id", ondelete="CASCADE")
    return Column("org_id", link, nullable=null, primary_key=primary)


class OrganizationRow(SQLModel, table=True):
    """An organisation. `limits` holds its overrides of the limits in the settings."""

    __tablename__: ClassVar[Any] = "organizations"

    id: UUID = Field(primary_key=True)
    name: str = Field(unique=True)
    limits: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=instant(default_now=True))
    disabled_at: datetime | None = Field(default=None, sa_column=instant(null=True))


class OrgUsageRow(SQLModel, table=True):
    """What an organisation keeps: its items, and their bytes as JSON. Kept by triggers on items."""

    __tablename__: ClassVar[Any] = "org_usage"

    org_id: UUID = Field(sa_column=org(primary=True))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))


class ApiTokenRow(SQLModel, table=True):
    """An API token. Only the SHA-256 of its secret is stored: 256 random bits need no slow hash.

    One without an organisation is the operator's; `data`: it may read the operator's odds and news.
    """

    __tablename__: ClassVar[Any] = "api_tokens"
    __table_args__ = (one_of("scope", Scope, "api_tokens_scope"), Index("api_tokens_org", "org_id"))

    id: UUID = Field(primary_key=True)
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    label: str
    scope: str
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant(default_now=True))
    created_by: str | None = None
    expires_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    revoked_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    last_used_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    data: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class CollectionPresetRow(SQLModel, table=True):
    """A named set of sources with parameters. A preset without an organisation is built in."""

    __tablename__: ClassVar[Any] = "collection_presets"
    __table_args__ = (
        Index(
            "collection_presets_name", text(f"coalesce(org_id, {NULL_ORG})"), "name", unique=True
        ),
    )

    id: UUID = Field(primary_key=True)
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    name: str
    sources: list[dict[str, Any]] = Field(sa_column=json("[]"))
    revision: int = Field(default=1)
    created_at: datetime = Field(sa_column=instant(default_now=True))
    updated_at: datetime = Field(sa_column=instant(default_now=True))


class ScheduleEditRow(SQLModel, table=True):
    """One edit of a schedule: when, by whom, and its state before and after."""

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
    """A generic record of one source, identified by `key`, as it was last seen.

    `changed_at` moves only when the content changes. `absent_since` is set by a complete listing
    that does not contain the item, and `missing_since` when the next one does not either.
    `series`: the source's own key, in append modes, where every observation is a row of its own.
    """

    __tablename__: ClassVar[Any] = "items"
    __table_args__ = (
        # Plain columns: under row-level security, Postgres does not use an index on expressions.
        Index(
            "items_key",
            *("org_id", "source", "key"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("items_changed", "org_id", text("changed_at DESC"), text("id DESC")),
        Index("items_source_changed", "org_id", "source", text("changed_at DESC"), text("id DESC")),
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
    absent_since: datetime | None = Field(default=None, sa_column=instant(null=True))
    missing_since: datetime | None = Field(default=None, sa_column=instant(null=True))
    run_id: UUID | None = None
    page_order: int = Field(default=0, sa_column=page_order())
