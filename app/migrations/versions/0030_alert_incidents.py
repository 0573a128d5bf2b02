"""The incident that an alert opens or closes, for notifiers that track incidents."""

from alembic import op

revision = "0030"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE notifications ADD incident varchar")


def downgrade() -> None:
    op.execute("ALTER TABLE notifications DROP incident")
