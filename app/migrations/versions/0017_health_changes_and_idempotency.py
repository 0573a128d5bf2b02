"""Health of collections in the feed, requests that are made once, and secured partitions"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# The kinds of changes before.
KINDS = "'new', 'changed', 'missing', 'returned', 'run'"
# Of collections that want to be notified: flips are recorded for those only.
HEALTH = """
CREATE FUNCTION changes_of_health() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (position, org_id, at, kind, key, fields)
  SELECT change_position(), s.org_id, NEW.at, 'health', NEW.key, jsonb_build_object(
    'status', jsonb_build_object('from', NEW.before, 'to', NEW.after),
    'reason', jsonb_build_object('from', NEW.before_reason, 'to', NEW.after_reason))
  FROM schedules s WHERE s.key = NEW.key AND s.org_id IS NOT NULL;
  RETURN NULL;
END $$
"""
# Built-in jobs are in no feed.
TRIGGER = """
CREATE TRIGGER changes_of_health AFTER INSERT ON health_flips FOR EACH ROW
WHEN (NEW.key LIKE 'collection:%') EXECUTE FUNCTION changes_of_health()
"""
# The position is computed once for each statement, not for each row.
ITEMS_CHANGED = """
CREATE OR REPLACE FUNCTION changes_of_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (position, org_id, at, kind, source, key, run_id, fields)
  SELECT c.position, n.org_id,
         CASE WHEN n.content_hash <> o.content_hash THEN n.changed_at
              WHEN n.missing_since IS NULL THEN n.last_seen ELSE now() END,
         CASE WHEN n.missing_since IS NULL AND o.missing_since IS NOT NULL THEN 'returned'
              WHEN n.content_hash <> o.content_hash THEN 'changed' ELSE 'missing' END,
         n.source, coalesce(n.series, n.key), n.run_id,
         CASE WHEN n.content_hash <> o.content_hash THEN json_difference(o.data, n.data) END
  FROM (SELECT change_position() AS position) c CROSS JOIN fresh n JOIN stale o USING (id)
  WHERE n.content_hash <> o.content_hash
     OR (n.missing_since IS NULL) <> (o.missing_since IS NULL);
  RETURN NULL;
END $$
"""
# Partitions have no policies: rows are reached through `changes` only, whose policy applies.
PARTITIONS = """
DO $$
DECLARE
  part regclass;
BEGIN
  FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'changes'::regclass LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', part);
  END LOOP;
END $$
"""
# The answer to a request with an idempotency key, which a repeated request gets as well.
IDEMPOTENCY = """
CREATE TABLE idempotency_keys (
    org_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    key varchar NOT NULL,
    fingerprint bytea NOT NULL,
    created_at timestamptz NOT NULL,
    status integer,
    body varchar,
    headers jsonb NOT NULL DEFAULT '{}'::jsonb,
    PRIMARY KEY (org_id, key)
)
"""
# An organisation reads its own answers.
POLICY = """
CREATE POLICY idempotency_keys_kept ON idempotency_keys USING (
  (SELECT current_setting('rollcall.house', true)) = 'on'
  OR org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid))
"""


def upgrade() -> None:
    _allow(f"{KINDS}, 'health'")
    for statement in (HEALTH, TRIGGER, ITEMS_CHANGED, PARTITIONS, IDEMPOTENCY):
        op.execute(statement)
    op.execute("ALTER TABLE change_clock ADD COLUMN system bigint")
    op.execute("ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY")
    op.execute(POLICY)


def downgrade() -> None:
    op.execute("DROP TABLE idempotency_keys")
    op.execute("ALTER TABLE change_clock DROP COLUMN system")
    op.execute("DROP TRIGGER changes_of_health ON health_flips")
    op.execute("DROP FUNCTION changes_of_health()")
    op.execute("DELETE FROM changes WHERE kind = 'health'")
    _allow(KINDS)


def _allow(kinds: str) -> None:
    op.execute("ALTER TABLE changes DROP CONSTRAINT changes_kind")
    op.execute(f"ALTER TABLE changes ADD CONSTRAINT changes_kind CHECK (kind IN ({kinds}))")
