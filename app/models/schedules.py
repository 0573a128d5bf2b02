"""Schedules, their versions, and the outcome of every tick."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    text,
)
from sqlmodel import Field, SQLModel

from app.core.enums import MISS_REASONS, SKIP_REASONS, TickOutcome, TickReason
from app.models.columns import instant, json, one_of
from app.models.orgs import org


def _reasons(reasons: frozenset[TickReason]) -> str:
    return ", ".join(f"'{reason}'" for reason in sorted(reasons))


REASON_FITS = (
    "(outcome = 'ran' AND reason IS NULL)"
    f" OR (outcome = 'skipped' AND reason IN ({_reasons(SKIP_REASONS)}))"
    f" OR (outcome = 'missed' AND reason IN ({_reasons(MISS_REASONS)}))"
)


class ScheduleRow(SQLModel, table=True):
    """When a job is due. `evaluated_through` is the frontier: it only moves forward.

    `revision` grows with every edit. A retired schedule has no further ticks; its past ones stay.
    `zone_data`: the stamp of the zone data that its ticks and exclusions are derived with; null for
    an interval without exclusions.
    `policy_choices`: the policies that an organisation chose for its collection.
    `paused_until`: when a pause ends by itself; null if it does not.
    """

    __tablename__: ClassVar[Any] = "schedules"
    __table_args__ = (
        Index("schedules_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        # Built-in schedules are few among a hundred thousand, and are read every second.
        Index("schedules_built_in", "key", postgresql_where=text("org_id IS NULL")),
        # Schedules with notifications may be few as well.
        Index("schedules_notify", "key", postgresql_where=text("notify")),
        # The collections of an organisation; `key` is unique and contains both.
        Index("schedules_org", "org_id", "key", postgresql_where=text("org_id IS NOT NULL")),
        Index("schedules_preset", "preset_id", postgresql_where=text("preset_id IS NOT NULL")),
        # Every sweep asks which zone data is in use.
        Index("schedules_zone_data", "zone_data", postgresql_where=text("retired_at IS NULL")),
        Index(
            "schedules_paused_until",
            "paused_until",
            postgresql_where=text("paused_until IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    key: str = Field(unique=True)
    job: str
    org_id: UUID | None = Field(default=None, sa_column=org(null=True))
    spec: dict[str, Any] = Field(sa_column=json())
    policies: dict[str, Any] = Field(sa_column=json())
    params: dict[str, Any] = Field(sa_column=json())
    version: int = Field(default=1)
    effective_from: datetime = Field(sa_column=instant())
    enabled: bool = True
    paused_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    paused_by: str | None = None
    paused_note: str | None = None
    evaluated_through: datetime = Field(sa_column=instant())
    next_tick_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    due_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    created_at: datetime = Field(sa_column=instant(default_now=True))
    preset_id: UUID | None = Field(
        default=None,
        sa_column=Column("preset_id", ForeignKey("collection_presets.id"), nullable=True),
    )
    notify: bool = Field(
        default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false"))
    )
    revision: int = Field(
        default=1, sa_column=Column(Integer, nullable=False, server_default=text("1"))
    )
    retired_at: datetime | None = Field(default=None, sa_column=instant(null=True))
    zone_data: str | None = None
    policy_choices: dict[str, Any] = Field(sa_column=json())
    paused_until: datetime | None = Field(default=None, sa_column=instant(null=True))


class ScheduleVersionRow(SQLModel, table=True):
    """One version of a schedule. It covers the ticks in (effective_from, answers_until].

    The ticks up to `pruned_through` are kept as numbers only: how many there were
    (`pruned_expected`), and the count of each outcome and reason (`pruned`).
    `verify` last found the ticks up to `proven_through` consistent: their number
    (`proven_expected`) and the count of each outcome and reason (`proven`), pruned ones included.
    `zone_data`: the stamp of the zone data that its ticks and exclusions are derived with; null for
    an interval without exclusions.
    `reason`: why the version was made.
    """

    __tablename__: ClassVar[Any] = "schedule_versions"

    schedule_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
        )
    )
    version: int = Field(primary_key=True)
    spec: dict[str, Any] = Field(sa_column=json())
    policies: dict[str, Any] = Field(sa_column=json())
    effective_from: datetime = Field(sa_column=instant())
    answers_until: datetime | None = Field(default=None, sa_column=instant(null=True))
    pruned_through: datetime | None = Field(default=None, sa_column=instant(null=True))
    pruned_expected: int = Field(
        default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0"))
    )
    pruned: dict[str, Any] = Field(sa_column=json())
    proven_through: datetime | None = Field(default=None, sa_column=instant(null=True))
    proven_expected: int = Field(
        default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0"))
    )
    proven: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=instant(default_now=True))
    zone_data: str | None = None
    reason: str | None = None


class ZoneDataRow(SQLModel, table=True):
    """One version of a zone's data (TZif) that schedules were derived with."""

    __tablename__: ClassVar[Any] = "zone_data"

    zone: str = Field(primary_key=True)
    stamp: str = Field(primary_key=True)
    data: bytes = Field(sa_type=LargeBinary)
    stored_at: datetime = Field(sa_column=instant(default_now=True))


class TickRow(SQLModel, table=True):
    """One tick and its outcome, partitioned by day."""

    __tablename__: ClassVar[Any] = "ticks"
    __table_args__ = (
        one_of("outcome", TickOutcome, "ticks_outcome"),
        CheckConstraint(REASON_FITS, name="ticks_reason"),
        CheckConstraint("(outcome = 'ran') = (run_id IS NOT NULL)", name="ticks_ran_has_run"),
        Index(
            "ticks_not_run",
            "schedule_id",
            "scheduled_for",
            postgresql_include=["outcome", "reason"],
            postgresql_where=text("outcome <> 'ran'"),
        ),
        {"postgresql_partition_by": "RANGE (scheduled_for)"},
    )

    schedule_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
        )
    )
    scheduled_for: datetime = Field(sa_column=Column(instant().type, primary_key=True))
    version: int
    outcome: str
    reason: str | None = None
    run_id: UUID | None = None
    blocking_run_id: UUID | None = None
    decided_at: datetime = Field(sa_column=instant())


class TickGapRow(SQLModel, table=True):
    """Consecutive ticks with the same outcome and reason, none of which ran, stored as one row."""

    __tablename__: ClassVar[Any] = "tick_gaps"
    __table_args__ = (
        CheckConstraint(REASON_FITS, name="tick_gaps_reason"),
        CheckConstraint("outcome <> 'ran'", name="tick_gaps_never_ran"),
        CheckConstraint("count > 0 AND first_tick <= last_tick", name="tick_gaps_order"),
    )

    schedule_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
        )
    )
    first_tick: datetime = Field(sa_column=Column(instant().type, primary_key=True))
    last_tick: datetime = Field(sa_column=instant())
    count: int = Field(sa_type=BigInteger)
    version: int
    outcome: str
    reason: str
    decided_at: datetime = Field(sa_column=instant())
