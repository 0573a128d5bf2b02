"""Fetched pages kept for retention and replay, and validators to detect unchanged pages."""

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
    LargeBinary,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json, page_order


def _bytes(*, primary_key: bool = False) -> Column[Any]:
    return Column(LargeBinary, primary_key=primary_key, nullable=False)


class RawBodyRow(SQLModel, table=True):
    """One body, compressed with zstd and shared by all pages that had it.

    `size`: bytes before compression.
    """

    __tablename__: ClassVar[Any] = "raw_bodies"
    __table_args__ = (Index("raw_bodies_used", "used_at"),)

    hash: bytes = Field(sa_column=_bytes(primary_key=True))
    body: bytes = Field(sa_column=_bytes())
    size: int
    used_at: datetime = Field(sa_column=instant())


class RawPageRow(SQLModel, table=True):
    """One response, as a parser receives it. A catalogue page has no partition."""

    __tablename__: ClassVar[Any] = "raw_pages"
    __table_args__ = (
        Index("raw_pages_run", "execution_id"),
        Index("raw_pages_body", "body_hash"),
        Index("raw_pages_fetched", "fetched_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    execution_id: UUID = Field(
        sa_column=Column(
            "execution_id", ForeignKey("runs.execution_id", ondelete="CASCADE"), nullable=False
        )
    )
    source: str
    partition: str | None = None
    expected: int | None = None
    page: int
    url: str
    status: int
    headers: dict[str, Any] = Field(sa_column=json())
    fetched_at: datetime = Field(sa_column=instant())
    body_hash: bytes = Field(
        sa_column=Column(LargeBinary, ForeignKey("raw_bodies.hash"), nullable=False)
    )


class PageValidatorRow(SQLModel, table=True):
    """What a page contained when it was last parsed, so that an unchanged page need not be.

    `keys` and `refused`: the records that it contained, which count although it is not parsed.
    `org_id`: of the transaction that writes it.
    """

    __tablename__: ClassVar[Any] = "page_validators"
    __table_args__ = (
        Index("page_validators_fetched", "full_fetched_at"),
        Index("page_validators_org", "org_id"),
    )

    fingerprint: bytes = Field(sa_column=_bytes(primary_key=True))
    source: str
    etag: str | None = None
    last_modified: str | None = None
    body_hash: bytes = Field(sa_column=_bytes())
    full_fetched_at: datetime = Field(sa_column=instant())
    keys: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    refused: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    prices: int
    rejected: int
    coverage: dict[str, Any] = Field(sa_column=json())
    page_order: int = Field(default=0, sa_column=page_order())
    org_id: UUID | None = Field(
        default=None,
        sa_column=Column(
            "org_id",
            ForeignKey("organizations.id", ondelete="CASCADE"),
            server_default=text("nullif(current_setting('rollcall.org', true), '')::uuid"),
        ),
    )
