"""Webhooks of organisations, and the ledger of their deliveries."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import BYTEA
from sqlmodel import Field, SQLModel

from app.core.enums import DeliveryState
from app.models.columns import instant, one_of
from app.models.orgs import org


def _place() -> Column[Any]:
    return Column(BigInteger, nullable=False)


class WebhookRow(SQLModel, table=True):
    """An address that gets the changes of an organisation. `secret`: encrypted, for signatures.

    `position`, `change_id`: the place in the feed up to which deliveries were made.
    """

    __tablename__: ClassVar[Any] = "webhooks"
    __table_args__ = (Index("webhooks_org", "org_id"),)

    id: UUID = Field(primary_key=True)
    org_id: UUID = Field(sa_column=org())
    url: str
    secret: bytes = Field(sa_column=Column(BYTEA, nullable=False))
    position: int = Field(sa_column=_place())
    change_id: int = Field(sa_column=_place())
    created_at: datetime = Field(sa_column=instant())
    created_by: str
    paused_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    paused_reason: str | None = None


class WebhookDeliveryRow(SQLModel, table=True):
    """One message: the changes of a stretch of the feed. Its id stays the same when it is retried.

    `count`: of its changes; 0 is a test. `number`: its order among those of the webhook.
    """

    __tablename__: ClassVar[Any] = "webhook_deliveries"
    __table_args__ = (
        one_of("state", DeliveryState, "webhook_deliveries_state"),
        CheckConstraint(
            "state <> 'undelivered' OR reason IS NOT NULL", name="webhook_deliveries_reason"
        ),
        Index("webhook_deliveries_hook", "webhook_id", "number"),
        Index("webhook_deliveries_due", "next_try_at", postgresql_where=text("state = 'waiting'")),
        Index(
            "webhook_deliveries_waiting",
            "webhook_id",
            "number",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("webhook_deliveries_org", "org_id"),
    )

    id: UUID = Field(primary_key=True)
    number: int | None = Field(
        default=None, sa_column=Column(BigInteger, Identity(), nullable=False)
    )
    webhook_id: UUID = Field(
        sa_column=Column(ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False)
    )
    org_id: UUID = Field(sa_column=org())
    after_position: int = Field(sa_column=_place())
    after_id: int = Field(sa_column=_place())
    through_position: int = Field(sa_column=_place())
    through_id: int = Field(sa_column=_place())
    count: int
    state: str
    attempts: int
    created_at: datetime = Field(sa_column=instant())
    next_try_at: datetime = Field(sa_column=instant())
    ended_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    status: int | None = None
    reason: str | None = None
