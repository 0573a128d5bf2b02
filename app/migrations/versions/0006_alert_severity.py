"""Severity of queued alerts, so that notifiers can map it."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE notifications ADD severity varchar NOT NULL DEFAULT 'failure'")
    op.execute(
        "ALTER TABLE notifications ADD CONSTRAINT notifications_severity"
        " CHECK (severity IN ('failure', 'warning', 'success'))"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE notifications DROP severity")
