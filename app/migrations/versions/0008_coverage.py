"""What the records of a run have in their fields; and secrets of organisations, encrypted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

HOUSE = "(SELECT current_setting('rollcall.house', true)) = 'on'"
MINE = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"


def upgrade() -> None:
    for table in ("run_sources", "page_validators"):
        op.add_column(
            table,
            sa.Column(
                "coverage",
                postgresql.JSONB(astext_type=sa.Text()),
                server_default=sa.text("'{}'::jsonb"),
                nullable=False,
            ),
        )
    op.create_table(
        "org_secrets",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("org_id", "name"),
    )
    op.execute("ALTER TABLE org_secrets ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE org_secrets FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY org_secrets_kept ON org_secrets USING ({HOUSE} OR {MINE})")


def downgrade() -> None:
    op.drop_table("org_secrets")
    for table in ("page_validators", "run_sources"):
        op.drop_column(table, "coverage")
