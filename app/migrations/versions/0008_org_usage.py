"""Count the items that each organisation keeps, and their bytes"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# One row for each organisation that keeps items.
TABLE = """
CREATE TABLE org_usage (
    org_id uuid PRIMARY KEY REFERENCES organizations ON DELETE CASCADE,
    rows bigint NOT NULL,
    bytes bigint NOT NULL
)
"""

# The size of a row is that of its JSON and its key, with 200 bytes for the rest and the indexes.
SIZE = """
CREATE FUNCTION item_size(data jsonb, key varchar) RETURNS bigint LANGUAGE sql IMMUTABLE AS
'SELECT octet_length(data::text) + octet_length(key) + 200'
"""
# What is added, changed and removed is counted once for each statement, by owner.
ADDED = """
CREATE FUNCTION org_usage_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO org_usage AS u (org_id, rows, bytes)
  SELECT org_id, count(*), sum(item_size(data, key)) FROM fresh WHERE org_id IS NOT NULL GROUP BY 1
  ON CONFLICT (org_id) DO UPDATE SET rows = u.rows + excluded.rows, bytes = u.bytes + excluded.bytes;
  RETURN NULL;
END $$
"""
CHANGED = """
CREATE FUNCTION org_usage_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE org_usage u SET bytes = u.bytes + c.bytes
  FROM (SELECT n.org_id, sum(item_size(n.data, n.key) - item_size(o.data, o.key)) AS bytes
        FROM fresh n JOIN stale o USING (id)
        WHERE n.org_id IS NOT NULL AND n.data IS DISTINCT FROM o.data GROUP BY 1) c
  WHERE u.org_id = c.org_id;
  RETURN NULL;
END $$
"""
REMOVED = """
CREATE FUNCTION org_usage_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE org_usage u SET rows = u.rows - r.rows, bytes = u.bytes - r.bytes
  FROM (SELECT org_id, count(*) AS rows, sum(item_size(data, key)) AS bytes
        FROM stale WHERE org_id IS NOT NULL GROUP BY 1) r
  WHERE u.org_id = r.org_id;
  RETURN NULL;
END $$
"""
TRIGGERS = (
    "CREATE TRIGGER org_usage_added AFTER INSERT ON items REFERENCING NEW TABLE AS fresh"
    " FOR EACH STATEMENT EXECUTE FUNCTION org_usage_added()",
    "CREATE TRIGGER org_usage_changed AFTER UPDATE ON items"
    " REFERENCING OLD TABLE AS stale NEW TABLE AS fresh"
    " FOR EACH STATEMENT EXECUTE FUNCTION org_usage_changed()",
    "CREATE TRIGGER org_usage_removed AFTER DELETE ON items REFERENCING OLD TABLE AS stale"
    " FOR EACH STATEMENT EXECUTE FUNCTION org_usage_removed()",
)
# The items that there are already.
COUNTED = """
INSERT INTO org_usage (org_id, rows, bytes)
SELECT org_id, count(*), sum(item_size(data, key)) FROM items WHERE org_id IS NOT NULL GROUP BY 1
"""
# An organisation sees its own row.
POLICY = """
CREATE POLICY org_usage_kept ON org_usage USING (
  (SELECT current_setting('rollcall.house', true)) = 'on'
  OR org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid))
"""


def upgrade() -> None:
    for statement in (TABLE, SIZE, ADDED, CHANGED, REMOVED, *TRIGGERS, COUNTED):
        op.execute(statement)
    op.execute("ALTER TABLE org_usage ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE org_usage FORCE ROW LEVEL SECURITY")
    op.execute(POLICY)


def downgrade() -> None:
    for name in ("added", "changed", "removed"):
        op.execute(f"DROP TRIGGER org_usage_{name} ON items")
        op.execute(f"DROP FUNCTION org_usage_{name}()")
    op.execute("DROP FUNCTION item_size(jsonb, varchar)")
    op.execute("DROP TABLE org_usage")
