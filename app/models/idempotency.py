"""Idempotency keys of requests, with their answers."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index, LargeBinary
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json
from app.models.orgs import org


class IdempotencyKeyRow(SQLModel, table=True):
    """A key of a request of an organisation or the operator, which is null.

    `status` is null until it has been answered.
    """

    __tablename__: ClassVar[Any] = "idempotency_keys"

    __table_args__ = (
        Index(
            "idempotency_keys_key",
            *("org_id", "key"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    key: str
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant())
    status: int | None = None
    body: str | None = None
    headers: dict[str, Any] = Field(sa_column=json())
