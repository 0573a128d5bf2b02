"""The audit log: what people did to runs, backfills and alerts."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index, text
from sqlmodel import Field, SQLModel

from app.core.enums import AuditAction
from app.models.columns import instant, json, one_of
from app.models.orgs import org


class AuditRow(SQLModel, table=True):
    """One act of a person: who, what, on which job or run, why. `org_id`: who owns the object."""

    __tablename__: ClassVar[Any] = "audit_log"
    __table_args__ = (
        one_of("action", AuditAction, "audit_log_action"),
        Index("audit_log_at", "at", "id"),
        Index("audit_log_org", "org_id", postgresql_where=text("org_id IS NOT NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    at: datetime = Field(sa_column=instant())
    by: str
    action: str
    job: str | None = None
    execution_id: UUID | None = None
    reason: str | None = None
    detail: dict[str, Any] = Field(sa_column=json())
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
