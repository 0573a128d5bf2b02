"""Backfills and replays, and what is left of ticks when they are pruned."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

HOUSE = "(SELECT current_setting('rollcall.house', true)) = 'on'"
MINE = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"
SEEN = "EXISTS (SELECT 1 FROM schedules parent WHERE parent.id = backfills.schedule_id)"

TRIGGERS = """
ALTER TABLE runs DROP CONSTRAINT runs_trigger,
  ADD CONSTRAINT runs_trigger CHECK (trigger IN ({}))
"""


def upgrade() -> None:
    op.create_table(
        "backfills",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("since <= until", name="backfills_order"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("backfills_schedule", "backfills", ["schedule_id", "created_at"])
    op.add_column("runs", sa.Column("backfill_id", sa.Uuid(), nullable=True))
    op.create_index(
        "runs_backfill",
        "runs",
        ["backfill_id"],
        postgresql_where=sa.text("backfill_id IS NOT NULL"),
    )
    op.create_index("runs_created", "runs", ["created_at"])
    op.create_index("rejected_records_created", "rejected_records", ["created_at"])
    op.add_column(
        "schedule_versions", sa.Column("pruned_through", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "schedule_versions",
        sa.Column("pruned_expected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "schedule_versions",
        sa.Column(
            "pruned",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
    )
    op.execute(TRIGGERS.format("'scheduled', 'manual', 'backfill', 'replay'"))
    op.execute("ALTER TABLE backfills ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE backfills FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY backfills_seen ON backfills FOR SELECT USING ({HOUSE} OR {SEEN})")
    op.execute(
        "CREATE POLICY backfills_kept ON backfills"
        f" USING ({HOUSE} OR {SEEN[:-1]} AND parent.{MINE}))"
    )


def downgrade() -> None:
    op.execute("DELETE FROM runs WHERE trigger = 'replay'")
    op.execute(TRIGGERS.format("'scheduled', 'manual', 'backfill'"))
    op.drop_column("schedule_versions", "pruned")
    op.drop_column("schedule_versions", "pruned_expected")
    op.drop_column("schedule_versions", "pruned_through")
    op.drop_index("rejected_records_created", table_name="rejected_records")
    op.drop_index("runs_created", table_name="runs")
    op.drop_index("runs_backfill", table_name="runs")
    op.drop_column("runs", "backfill_id")
    op.drop_table("backfills")
