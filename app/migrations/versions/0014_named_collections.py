"""Several collections of one organisation"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX schedules_org")
    op.execute("CREATE INDEX schedules_org ON schedules (org_id, key) WHERE org_id IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX schedules_org")
    op.execute("CREATE UNIQUE INDEX schedules_org ON schedules (org_id) WHERE org_id IS NOT NULL")
