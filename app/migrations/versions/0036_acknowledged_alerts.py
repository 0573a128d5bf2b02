"""Alerts that a person has acknowledged or snoozed"""

from alembic import op

revision = "0036"
down_revision = "0033"
branch_labels = None
depends_on = None

# The acts before.
BEFORE = "'run', 'cancel', 'retry', 'backfill', 'stop_backfill'"


def _allow(actions: str) -> None:
    op.execute("ALTER TABLE audit_log DROP CONSTRAINT audit_log_action")
    op.execute(
        f"ALTER TABLE audit_log ADD CONSTRAINT audit_log_action CHECK (action IN ({actions}))"
    )


def upgrade() -> None:
    op.execute(
        "ALTER TABLE health_states ADD COLUMN acknowledged_at timestamptz,"
        " ADD COLUMN acknowledged_by varchar, ADD COLUMN acknowledged_note varchar,"
        " ADD COLUMN acknowledged_reason varchar, ADD COLUMN snoozed_until timestamptz"
    )
    _allow(f"{BEFORE}, 'acknowledge', 'snooze', 'unacknowledge'")


def downgrade() -> None:
    op.execute("DELETE FROM audit_log WHERE action IN ('acknowledge', 'snooze', 'unacknowledge')")
    _allow(BEFORE)
    for column in ("at", "by", "note", "reason"):
        op.execute(f"ALTER TABLE health_states DROP COLUMN acknowledged_{column}")
    op.execute("ALTER TABLE health_states DROP COLUMN snoozed_until")
