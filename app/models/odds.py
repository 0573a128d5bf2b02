"""Odds: events, the price of each outcome now, and every move it made."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Numeric, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.models.columns import instant, one_of
from app.words import Market, Outcome


class OddsEventRow(SQLModel, table=True):
    """One match at one site. The Sportradar id joins the sites."""

    __tablename__: ClassVar[Any] = "odds_events"
    __table_args__ = (
        UniqueConstraint("platform", "platform_event_id", name="odds_events_natural_key"),
        Index("odds_events_sportradar", "sportradar_id"),
        Index("odds_events_kickoff", "kickoff"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    platform: str
    platform_event_id: str
    sportradar_id: str | None = None
    country: str
    competition: str
    competition_id: str | None = None
    home: str
    away: str
    kickoff: datetime = Field(sa_column=instant())
    first_seen_at: datetime = Field(sa_column=instant())
    updated_at: datetime = Field(sa_column=instant())
    run_id: UUID


class OddsPriceRow(SQLModel, table=True):
    """What an outcome pays now. A row is written only when the price or its availability moves."""

    __tablename__: ClassVar[Any] = "odds_prices"
    __table_args__ = (
        UniqueConstraint(
            "event_id",
            "market",
            "line",
            "outcome",
            name="odds_prices_natural_key",
            postgresql_nulls_not_distinct=True,
        ),
        one_of("market", Market, "odds_prices_market"),
        one_of("outcome", Outcome, "odds_prices_outcome"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    event_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("odds_events.id", ondelete="CASCADE"), nullable=False
        )
    )
    market: str
    line: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    outcome: str
    price: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    active: bool
    changed_at: datetime = Field(sa_column=instant())
    run_id: UUID


class OddsPriceChangeRow(SQLModel, table=True):
    """One move of one price. Append-only."""

    __tablename__: ClassVar[Any] = "odds_price_changes"
    __table_args__ = (
        Index("odds_price_changes_path", "event_id", "market", "outcome", "observed_at"),
        Index("odds_price_changes_when", "observed_at", postgresql_using="brin"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    event_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("odds_events.id", ondelete="CASCADE"), nullable=False
        )
    )
    market: str
    line: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    outcome: str
    price: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    active: bool
    observed_at: datetime = Field(sa_column=instant())
    run_id: UUID
