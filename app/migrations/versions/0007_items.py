"""Observations of one row in a series; how far sources have been read, and at what pace."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

HOUSE = "(SELECT current_setting('rollcall.house', true)) = 'on'"
MINE = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"


def upgrade() -> None:
    op.create_table(
        "source_cursors",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "source_cursors_key",
        "source_cursors",
        ["org_id", "source", "partition"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "source_paces",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("interval_seconds", sa.Float(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "source_paces_key",
        "source_paces",
        ["org_id", "source"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("items", sa.Column("series", sa.String(), nullable=True))
    op.create_index(
        "items_series",
        "items",
        ["org_id", "source", "series", sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("series IS NOT NULL"),
    )
    for table in ("source_cursors", "source_paces"):
        _secure(table)


def _secure(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_seen ON {table} FOR SELECT"
        f" USING ({HOUSE} OR org_id IS NULL OR {MINE})"
    )
    op.execute(f"CREATE POLICY {table}_kept ON {table} USING ({HOUSE} OR {MINE})")


def downgrade() -> None:
    op.drop_index(
        "items_series", table_name="items", postgresql_where=sa.text("series IS NOT NULL")
    )
    op.drop_column("items", "series")
    op.drop_table("source_paces")
    op.drop_table("source_cursors")
