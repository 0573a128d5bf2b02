"""Odds: events, current prices, price changes, and the last complete listing of each partition."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from app.core.enums import EventChange, Market, MarketOutcome
from app.models.columns import instant, one_of, page_order


class OddsEventRow(SQLModel, table=True):
    """One match at one site. The Sportradar id joins the sites.

    `fingerprint`: of the record as last written; null forces a full comparison with the next one.
    `seen_at`: when it was last written or last seen in an incomplete listing. An event that is not
    absent was also seen in the last complete listing of its `partition` (`odds_boards`).
    `absent_since`: complete listings have not contained it since then.
    """

    __tablename__: ClassVar[Any] = "odds_events"
    __table_args__ = (
        UniqueConstraint("platform", "platform_event_id", name="odds_events_natural_key"),
        Index("odds_events_sportradar", "sportradar_id"),
        Index("odds_events_kickoff", "kickoff"),
        Index("odds_events_board", "platform", "partition", "kickoff"),
        {"postgresql_with": {"fillfactor": 80}},
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
    partition: str | None = None
    absent_since: datetime | None = Field(default=None, sa_column=instant(null=True))
    withdrawn_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    seen_at: datetime = Field(sa_column=instant())
    seen_run_id: UUID
    fingerprint: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    page_order: int = Field(default=0, sa_column=page_order())


class OddsBoardRow(SQLModel, table=True):
    """The last complete listing of a partition: it contained every event that is not absent."""

    __tablename__: ClassVar[Any] = "odds_boards"

    platform: str = Field(primary_key=True)
    partition: str = Field(primary_key=True)
    events: int
    listed_at: datetime = Field(sa_column=instant())
    run_id: UUID


class OddsEventChangeRow(SQLModel, table=True):
    """A change of an event: kick-off, teams, competition, withdrawal or return. Append-only."""

    __tablename__: ClassVar[Any] = "odds_event_changes"
    __table_args__ = (
        one_of("what", EventChange, "odds_event_changes_what"),
        Index("odds_event_changes_event", "event_id", "observed_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    event_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("odds_events.id", ondelete="CASCADE"), nullable=False
        )
    )
    what: str
    before: str | None = None
    after: str | None = None
    observed_at: datetime = Field(sa_column=instant())
    run_id: UUID


class OddsPriceRow(SQLModel, table=True):
    """The current price of an outcome; null if it was withdrawn.

    A row is written only when the price or its availability changes.
    """

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
        one_of("outcome", MarketOutcome, "odds_prices_outcome"),
        {"postgresql_with": {"fillfactor": 80}},
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
    price: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    active: bool
    changed_at: datetime = Field(sa_column=instant())
    run_id: UUID


class OddsPriceChangeRow(SQLModel, table=True):
    """One change of one price; null means withdrawn. Append-only, partitioned by month."""

    __tablename__: ClassVar[Any] = "odds_price_changes"
    __table_args__ = (
        PrimaryKeyConstraint("event_id", "observed_at", "id", name="odds_price_changes_path"),
        {"postgresql_partition_by": "RANGE (observed_at)"},
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), nullable=False))
    event_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    market: str
    line: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    outcome: str
    price: Decimal | None = Field(default=None, sa_column=Column(Numeric))
    active: bool
    observed_at: datetime = Field(sa_column=instant())
    run_id: UUID
