"""Idempotency keys of requests, with their answers."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json
from app.models.orgs import org


class IdempotencyKeyRow(SQLModel, table=True):
    """A key of a request of an organisation. `status` is null until it has been answered."""

    __tablename__: ClassVar[Any] = "idempotency_keys"

    org_id: UUID = Field(sa_column=org(primary=True))
    key: str = Field(primary_key=True)
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant())
    status: int | None = None
    body: str | None = None
    headers: dict[str, Any] = Field(sa_column=json())
