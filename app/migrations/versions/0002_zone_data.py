"""The zone data that ticks are derived with, and ticks that an unreadable schedule missed"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Which reasons go with which outcome, before and after.
OLD_REASONS = "(outcome = 'ran' AND reason IS NULL) OR (outcome = 'skipped' AND reason IN ('coalesced', 'disabled', 'overlap', 'paused', 'superseded')) OR (outcome = 'missed' AND reason IN ('clock_jump', 'late', 'scheduler_down'))"
REASONS = "(outcome = 'ran' AND reason IS NULL) OR (outcome = 'skipped' AND reason IN ('coalesced', 'disabled', 'overlap', 'paused', 'superseded')) OR (outcome = 'missed' AND reason IN ('clock_jump', 'late', 'scheduler_down', 'unreadable'))"


def upgrade() -> None:
    op.create_table(
        "zone_data",
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("stamp", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column(
            "stored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("zone", "stamp"),
    )
    op.add_column("schedules", sa.Column("zone_data", sa.String(), nullable=True))
    op.add_column("schedule_versions", sa.Column("zone_data", sa.String(), nullable=True))
    op.add_column("schedule_versions", sa.Column("reason", sa.String(), nullable=True))
    # An empty stamp: the data is not known. A worker's start stamps the versions in force.
    op.execute("UPDATE schedules SET zone_data = '' WHERE spec ? 'cron'")
    op.execute("UPDATE schedule_versions SET zone_data = '' WHERE spec ? 'cron'")
    op.create_index(
        "schedules_zone_data",
        "schedules",
        ["zone_data"],
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    _replace_checks(REASONS)


def downgrade() -> None:
    _replace_checks(OLD_REASONS)
    op.drop_index("schedules_zone_data", table_name="schedules")
    op.drop_column("schedule_versions", "reason")
    op.drop_column("schedule_versions", "zone_data")
    op.drop_column("schedules", "zone_data")
    op.drop_table("zone_data")


def _replace_checks(reasons: str) -> None:
    for table in ("ticks", "tick_gaps"):
        op.drop_constraint(f"{table}_reason", table, type_="check")
        op.create_check_constraint(f"{table}_reason", table, reasons)
