"""house"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "odds_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("platform_event_id", sa.String(), nullable=False),
        sa.Column("sportradar_id", sa.String(), nullable=True),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("competition", sa.String(), nullable=False),
        sa.Column("competition_id", sa.String(), nullable=True),
        sa.Column("home", sa.String(), nullable=False),
        sa.Column("away", sa.String(), nullable=False),
        sa.Column("kickoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("platform", "platform_event_id", name="odds_events_natural_key"),
    )
    op.create_index("odds_events_kickoff", "odds_events", ["kickoff"], unique=False)
    op.create_index("odds_events_sportradar", "odds_events", ["sportradar_id"], unique=False)
    op.create_table(
        "schedules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column(
            "spec",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "policies",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.String(), nullable=True),
        sa.Column("paused_note", sa.String(), nullable=True),
        sa.Column("evaluated_through", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_tick_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "schedules_due",
        "schedules",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "worker_beats",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("jumped", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("worker_beats_until", "worker_beats", ["until"], unique=False)
    op.create_table(
        "odds_price_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("line", sa.Numeric(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["odds_events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "odds_price_changes_path",
        "odds_price_changes",
        ["event_id", "market", "outcome", "observed_at"],
        unique=False,
    )
    op.create_index(
        "odds_price_changes_when",
        "odds_price_changes",
        ["observed_at"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "odds_prices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("line", sa.Numeric(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "market IN ('1x2', 'over_under', 'btts', 'double_chance')", name="odds_prices_market"
        ),
        sa.CheckConstraint(
            "outcome IN ('home', 'draw', 'away', 'over', 'under', 'yes', 'no', 'home_draw', 'home_away', 'draw_away')",
            name="odds_prices_outcome",
        ),
        sa.ForeignKeyConstraint(["event_id"], ["odds_events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "event_id",
            "market",
            "line",
            "outcome",
            name="odds_prices_natural_key",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "runs",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("schedule_id", sa.BigInteger(), nullable=True),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=True),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column(
            "stats",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'success', 'partial_failure', 'failure', 'timed_out', 'cancelled', 'lost')",
            name="runs_status",
        ),
        sa.CheckConstraint("trigger IN ('scheduled', 'manual', 'backfill')", name="runs_trigger"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("runs_job_created", "runs", ["job", "created_at"], unique=False)
    op.create_index(
        "runs_leases",
        "runs",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "runs_one_per_tick",
        "runs",
        ["schedule_id", "scheduled_for"],
        unique=True,
        postgresql_where=sa.text("trigger = 'scheduled'"),
    )
    op.create_index(
        "runs_open",
        "runs",
        ["schedule_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("runs_schedule_created", "runs", ["schedule_id", "created_at"], unique=False)
    op.create_index(
        "runs_waiting",
        "runs",
        ["queued_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "schedule_versions",
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column(
            "spec",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "policies",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answers_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("schedule_id", "version"),
    )
    op.create_table(
        "tick_gaps",
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("first_tick", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_tick", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(outcome = 'ran' AND reason IS NULL) OR (outcome = 'skipped' AND reason IN ('coalesced', 'disabled', 'overlap', 'paused', 'superseded')) OR (outcome = 'missed' AND reason IN ('clock_jump', 'late', 'scheduler_down'))",
            name="tick_gaps_reason",
        ),
        sa.CheckConstraint("outcome <> 'ran'", name="tick_gaps_never_ran"),
        sa.CheckConstraint("count > 0 AND first_tick <= last_tick", name="tick_gaps_order"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("schedule_id", "first_tick"),
    )
    op.create_table(
        "ticks",
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("blocking_run_id", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(outcome = 'ran' AND reason IS NULL) OR (outcome = 'skipped' AND reason IN ('coalesced', 'disabled', 'overlap', 'paused', 'superseded')) OR (outcome = 'missed' AND reason IN ('clock_jump', 'late', 'scheduler_down'))",
            name="ticks_reason",
        ),
        sa.CheckConstraint("(outcome = 'ran') = (run_id IS NOT NULL)", name="ticks_ran_has_run"),
        sa.CheckConstraint("outcome IN ('ran', 'skipped', 'missed')", name="ticks_outcome"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("schedule_id", "scheduled_for"),
    )
    op.create_table(
        "rejected_records",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["execution_id"], ["runs.execution_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rejected_records_run", "rejected_records", ["execution_id"], unique=False)
    op.create_table(
        "run_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["runs.execution_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("run_events_run", "run_events", ["execution_id"], unique=False)
    op.create_table(
        "run_sources",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("partitions", sa.Integer(), nullable=False),
        sa.Column("partitions_failed", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("inserted", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("throttled_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "counts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.Column("error_kind", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column(
            "errors",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("done", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "done_counts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["execution_id"], ["runs.execution_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("execution_id", "source"),
    )


def downgrade() -> None:
    op.drop_table("run_sources")
    op.drop_index("run_events_run", table_name="run_events")
    op.drop_table("run_events")
    op.drop_index("rejected_records_run", table_name="rejected_records")
    op.drop_table("rejected_records")
    op.drop_table("ticks")
    op.drop_table("tick_gaps")
    op.drop_table("schedule_versions")
    op.drop_index("runs_waiting", table_name="runs", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("runs_schedule_created", table_name="runs")
    op.drop_index(
        "runs_open", table_name="runs", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_index(
        "runs_one_per_tick", table_name="runs", postgresql_where=sa.text("trigger = 'scheduled'")
    )
    op.drop_index("runs_leases", table_name="runs", postgresql_where=sa.text("status = 'running'"))
    op.drop_index("runs_job_created", table_name="runs")
    op.drop_table("runs")
    op.drop_table("odds_prices")
    op.drop_index(
        "odds_price_changes_when", table_name="odds_price_changes", postgresql_using="brin"
    )
    op.drop_index("odds_price_changes_path", table_name="odds_price_changes")
    op.drop_table("odds_price_changes")
    op.drop_index("worker_beats_until", table_name="worker_beats")
    op.drop_table("worker_beats")
    op.drop_index(
        "schedules_due", table_name="schedules", postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.drop_table("schedules")
    op.drop_index("odds_events_sportradar", table_name="odds_events")
    op.drop_index("odds_events_kickoff", table_name="odds_events")
    op.drop_table("odds_events")
