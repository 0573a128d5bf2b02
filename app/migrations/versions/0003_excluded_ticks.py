"""Ticks may be skipped as `excluded`, and a collection keeps the policies that were chosen."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("ticks", "tick_gaps")
# The reasons of skipped and missed ticks, and those of skipped ones from here on.
SKIPPED = "'coalesced', 'disabled', 'overlap', 'paused', 'superseded'"
MISSED = "'clock_jump', 'late', 'scheduler_down', 'unreadable'"
SKIPPED_OR_EXCLUDED = "'coalesced', 'disabled', 'excluded', 'overlap', 'paused', 'superseded'"


def upgrade() -> None:
    for table in TABLES:
        _constrain(table, SKIPPED_OR_EXCLUDED)
    op.execute("ALTER TABLE schedules ADD COLUMN policy_choices jsonb NOT NULL DEFAULT '{}'::jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE schedules DROP COLUMN policy_choices")
    for table in TABLES:
        op.execute(f"UPDATE {table} SET reason = 'disabled' WHERE reason = 'excluded'")  # noqa: S608 - constant
        _constrain(table, SKIPPED)


def _constrain(table: str, skipped: str) -> None:
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_reason")
    op.execute(
        f"ALTER TABLE {table} ADD CONSTRAINT {table}_reason CHECK ("
        " (outcome = 'ran' AND reason IS NULL)"
        f" OR (outcome = 'skipped' AND reason IN ({skipped}))"
        f" OR (outcome = 'missed' AND reason IN ({MISSED})))"
    )
