"""Sources that organisations have written themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

HOUSE = "(SELECT current_setting('rollcall.house', true)) = 'on'"
MINE = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"


def upgrade() -> None:
    op.create_table(
        "org_sources",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("org_id", "name"),
    )
    op.execute("ALTER TABLE org_sources ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE org_sources FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY org_sources_kept ON org_sources USING ({HOUSE} OR {MINE})")


def downgrade() -> None:
    op.drop_table("org_sources")
