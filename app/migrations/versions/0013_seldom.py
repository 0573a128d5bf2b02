"""The few schedules that are looked at every second, found among a hundred thousand others"""

from alembic import op
from sqlalchemy import text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "schedules_built_in", "schedules", ["key"], postgresql_where=text("org_id IS NULL")
    )
    op.create_index("schedules_notify", "schedules", ["key"], postgresql_where=text("notify"))


def downgrade() -> None:
    op.drop_index("schedules_notify", table_name="schedules")
    op.drop_index("schedules_built_in", table_name="schedules")
