"""Keep how far each schedule version was proven, and what was counted: `verify` counts the rest"""

from alembic import op

revision = "0045"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE schedule_versions ADD proven_through timestamptz,"
        " ADD proven_expected bigint NOT NULL DEFAULT 0,"
        " ADD proven jsonb NOT NULL DEFAULT '{}'"
    )


def downgrade() -> None:
    op.execute(
        "ALTER TABLE schedule_versions DROP proven_through, DROP proven_expected, DROP proven"
    )
