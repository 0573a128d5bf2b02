"""Count ticks under the schedule's name, and hide other organisations' pages from each other."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# An organisation's collection is not named in metrics: all are counted as one.
TICKS_DECIDED = """
CREATE OR REPLACE FUNCTION metric_ticks_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metric_pending (job, outcome, reason, count)
  SELECT CASE WHEN s.org_id IS NULL THEN s.key ELSE s.job END, f.outcome, f.reason, count(*)
  FROM fresh f JOIN schedules s ON s.id = f.schedule_id GROUP BY 1, 2, 3;
  RETURN NULL;
END $$
"""
# A gap is counted like its ticks, unless one of them is a row already.
GAPS_DECIDED = """
CREATE OR REPLACE FUNCTION metric_gaps_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metric_pending (job, outcome, reason, count)
  SELECT CASE WHEN s.org_id IS NULL THEN s.key ELSE s.job END, f.outcome, f.reason, sum(f.count)
  FROM fresh f JOIN schedules s ON s.id = f.schedule_id
  WHERE NOT EXISTS (SELECT 1 FROM ticks t WHERE t.schedule_id = f.schedule_id
                    AND t.scheduled_for = f.first_tick AND t.version = f.version)
  GROUP BY 1, 2, 3;
  RETURN NULL;
END $$
"""
# Both under the task's name, as before.
TICKS_DECIDED_BEFORE = """
CREATE OR REPLACE FUNCTION metric_ticks_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metric_pending (job, outcome, reason, count)
  SELECT s.job, f.outcome, f.reason, count(*)
  FROM fresh f JOIN schedules s ON s.id = f.schedule_id GROUP BY 1, 2, 3;
  RETURN NULL;
END $$
"""
GAPS_DECIDED_BEFORE = """
CREATE OR REPLACE FUNCTION metric_gaps_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metric_pending (job, outcome, reason, count)
  SELECT s.job, f.outcome, f.reason, sum(f.count)
  FROM fresh f JOIN schedules s ON s.id = f.schedule_id
  WHERE NOT EXISTS (SELECT 1 FROM ticks t WHERE t.schedule_id = f.schedule_id
                    AND t.scheduled_for = f.first_tick AND t.version = f.version)
  GROUP BY 1, 2, 3;
  RETURN NULL;
END $$
"""
# The operator's sessions see all rows.
OPERATOR = "(SELECT current_setting('rollcall.house', true)) = 'on'"
# The pages of an organisation's own runs.
OWN_BODIES = """
CREATE POLICY raw_bodies_seen ON raw_bodies FOR SELECT USING (
  (SELECT current_setting('rollcall.house', true)) = 'on' OR EXISTS (
    SELECT 1 FROM raw_pages p JOIN runs r ON r.execution_id = p.execution_id
    WHERE p.body_hash = raw_bodies.hash
      AND r.org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)))
"""
# The organisation of the session; null for none.
OWN_ORG = "(SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"

# Equal bodies are stored once for all owners, and an organisation sees those of its own pages.
# The function may write any: the body that it is given is known to the caller.
KEEP_BODY = """
CREATE FUNCTION keep_raw_body(bytea, bytea, integer, timestamptz)
RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  role text := coalesce(current_setting('rollcall.house', true), '');
BEGIN
  PERFORM set_config('rollcall.house', 'on', true);
  INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ($1, $2, $3, $4)
  ON CONFLICT (hash) DO UPDATE SET used_at = greatest(raw_bodies.used_at, excluded.used_at);
  PERFORM set_config('rollcall.house', role, true);
  RETURN $1;
END $$
"""


def upgrade() -> None:
    op.execute(TICKS_DECIDED)
    op.execute(GAPS_DECIDED)
    op.execute(KEEP_BODY)
    op.execute("DELETE FROM page_validators")  # its pages are parsed once more
    op.execute(
        "ALTER TABLE page_validators ADD COLUMN org_id uuid REFERENCES organizations"
        " ON DELETE CASCADE DEFAULT nullif(current_setting('rollcall.org', true), '')::uuid"
    )
    op.execute("CREATE INDEX page_validators_org ON page_validators (org_id)")
    for table in ("page_validators", "raw_bodies"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY page_validators_kept ON page_validators"
        f" USING ({OPERATOR} OR org_id = {OWN_ORG})"
    )
    op.execute(f"CREATE POLICY raw_bodies_kept ON raw_bodies USING ({OPERATOR})")
    op.execute(OWN_BODIES)


def downgrade() -> None:
    op.execute("DROP POLICY raw_bodies_seen ON raw_bodies")
    op.execute("DROP POLICY raw_bodies_kept ON raw_bodies")
    op.execute("DROP POLICY page_validators_kept ON page_validators")
    for table in ("page_validators", "raw_bodies"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE page_validators DROP COLUMN org_id")
    op.execute("DROP FUNCTION keep_raw_body(bytea, bytea, integer, timestamptz)")
    op.execute(TICKS_DECIDED_BEFORE)
    op.execute(GAPS_DECIDED_BEFORE)
