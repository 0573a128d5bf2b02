"""Keep where an unfinished run found its keys, for its next attempt"""

from alembic import op

revision = "0025"
down_revision = "0021"
branch_labels = None
depends_on = None

# Where the keys of a partition were found, for the next attempt of its run.
RUN_KEYS = """
CREATE TABLE run_keys (
    execution_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    source varchar NOT NULL,
    partition varchar NOT NULL,
    places bytea NOT NULL,
    PRIMARY KEY (execution_id, source, partition)
)
"""
# Visible and writable as its run is, like the other tables of runs.
SECURE = (
    "ALTER TABLE run_keys ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE run_keys FORCE ROW LEVEL SECURITY",
    """
CREATE POLICY run_keys_kept ON run_keys USING (
  (SELECT current_setting('rollcall.house', true)) = 'on'
  OR EXISTS (SELECT 1 FROM runs parent WHERE parent.execution_id = run_keys.execution_id
             AND parent.org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)))
""",
    """
CREATE POLICY run_keys_seen ON run_keys FOR SELECT USING (
  (SELECT current_setting('rollcall.house', true)) = 'on'
  OR EXISTS (SELECT 1 FROM runs parent WHERE parent.execution_id = run_keys.execution_id))
""",
)


def upgrade() -> None:
    for statement in (RUN_KEYS, *SECURE):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE run_keys")
