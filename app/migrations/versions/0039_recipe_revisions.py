"""Keep the earlier revisions of organisations' recipes"""

from alembic import op

revision = "0039"
down_revision = "0037"
branch_labels = None
depends_on = None

# Each text of a recipe, with who wrote it.
TABLE = """
CREATE TABLE org_source_revisions (
    org_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name varchar NOT NULL,
    revision integer NOT NULL,
    recipe varchar NOT NULL,
    "by" varchar,
    at timestamptz NOT NULL,
    PRIMARY KEY (org_id, name, revision),
    CONSTRAINT org_source_revisions_source FOREIGN KEY (org_id, name)
      REFERENCES org_sources ON DELETE CASCADE
)
"""
# The operator's sessions see all rows; any other sees those of its organisation.
OPERATOR = "(SELECT current_setting('rollcall.house', true)) = 'on'"
OWN_ORG = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(
        "INSERT INTO org_source_revisions (org_id, name, revision, recipe, at)"
        " SELECT org_id, name, revision, recipe, updated_at FROM org_sources"
    )
    op.execute("ALTER TABLE org_source_revisions ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE org_source_revisions FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY org_source_revisions_kept ON org_source_revisions"
        f" USING ({OPERATOR} OR {OWN_ORG})"
    )


def downgrade() -> None:
    op.execute("DROP TABLE org_source_revisions")
