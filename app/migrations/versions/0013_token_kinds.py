"""Tokens of the operator, and rows of the operator hidden from organisations"""

from alembic import op

revision = "0013"
down_revision = "0010"
branch_labels = None
depends_on = None

# The operator's sessions see all rows; any other sees those of its organisation.
OPERATOR = "(SELECT current_setting('rollcall.house', true)) = 'on'"
OWN_ORG = "(SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"
# Only the built-in presets stay readable by every organisation.
OWNED = (
    "api_tokens",
    "schedules",
    "runs",
    "schedule_edits",
    "items",
    "source_cursors",
    "source_paces",
)
# Visible and writable as the rows that they belong to are; one policy says both.
CHILDREN = {
    "schedule_versions": ("schedules", "id", "schedule_id"),
    "ticks": ("schedules", "id", "schedule_id"),
    "tick_gaps": ("schedules", "id", "schedule_id"),
    "backfills": ("schedules", "id", "schedule_id"),
    "run_events": ("runs", "execution_id", "execution_id"),
    "run_sources": ("runs", "execution_id", "execution_id"),
    "rejected_records": ("runs", "execution_id", "execution_id"),
    "raw_pages": ("runs", "execution_id", "execution_id"),
}


def upgrade() -> None:
    op.execute("ALTER TABLE api_tokens ALTER COLUMN org_id DROP NOT NULL")
    for table in (*OWNED, *CHILDREN):
        op.execute(f"DROP POLICY {table}_seen ON {table}")
    op.execute("DROP POLICY organizations_seen ON organizations")  # equal to organizations_kept


def downgrade() -> None:
    op.execute("DELETE FROM api_tokens WHERE org_id IS NULL")
    op.execute("ALTER TABLE api_tokens ALTER COLUMN org_id SET NOT NULL")
    _see("organizations", f"id = {OWN_ORG}")
    for table in OWNED:
        _see(table, f"org_id IS NULL OR org_id = {OWN_ORG}")
    for table, (parent, key, column) in CHILDREN.items():
        match = f"SELECT 1 FROM {parent} parent WHERE parent.{key} = {table}.{column}"  # noqa: S608 - constants above
        _see(table, f"EXISTS ({match})")


def _see(table: str, rows: str) -> None:
    op.execute(f"CREATE POLICY {table}_seen ON {table} FOR SELECT USING ({OPERATOR} OR {rows})")
