"""Alert channels of organisations."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Column, Index
from sqlalchemy.dialects.postgresql import BYTEA
from sqlmodel import Field, SQLModel

from app.models.columns import instant, json
from app.models.orgs import org


class AlertChannelRow(SQLModel, table=True):
    """A channel for alerts of an organisation's collections. `secret`: its encrypted Apprise URL.

    `service`: the scheme of the URL. `collections`, `severities`: what it gets; empty is all.
    """

    __tablename__: ClassVar[Any] = "alert_channels"
    __table_args__ = (Index("alert_channels_org", "org_id"),)

    id: UUID = Field(primary_key=True)
    org_id: UUID = Field(sa_column=org())
    label: str
    service: str
    secret: bytes = Field(sa_column=Column(BYTEA, nullable=False))
    collections: list[str] = Field(sa_column=json("[]"))
    severities: list[str] = Field(sa_column=json("[]"))
    created_at: datetime = Field(sa_column=instant())
    created_by: str
