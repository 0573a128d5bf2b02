"""List the items of one source by their last change, without reading those of other sources."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX items_source_changed ON items (org_id, source, changed_at DESC, id DESC)"
    )


def downgrade() -> None:
    op.execute("DROP INDEX items_source_changed")
