"""Organisations' own alert channels, and severity and reminders in their feed"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

# An organisation's address for alerts, encrypted, and which it gets.
CHANNELS = """
CREATE TABLE alert_channels (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    label varchar NOT NULL,
    service varchar NOT NULL,
    secret bytea NOT NULL,
    collections jsonb NOT NULL DEFAULT '[]'::jsonb,
    severities jsonb NOT NULL DEFAULT '[]'::jsonb,
    created_at timestamptz NOT NULL,
    created_by varchar NOT NULL
)
"""
# Messages of channels are rows beside the operator's.
NOTIFICATIONS = """
ALTER TABLE notifications
    ADD COLUMN org_id uuid REFERENCES organizations ON DELETE CASCADE,
    ADD COLUMN channel_id uuid REFERENCES alert_channels ON DELETE CASCADE
"""
# For the list of an organisation, and a channel's messages.
INDEXES = (
    "CREATE INDEX alert_channels_org ON alert_channels (org_id)",
    "CREATE INDEX notifications_org ON notifications (org_id) WHERE org_id IS NOT NULL",
    "CREATE INDEX notifications_channel ON notifications (channel_id, id)"
    " WHERE channel_id IS NOT NULL",
)
# An organisation sees its own rows.
KEPT = """
CREATE POLICY {table}_kept ON {table} USING (
  (SELECT current_setting('rollcall.house', true)) = 'on'
  OR org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid))
"""
# The changes of health in the feed; `severity` is what they say from here on.
HEALTH = """
CREATE OR REPLACE FUNCTION changes_of_health() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (position, org_id, at, kind, key, fields)
  SELECT change_position(), s.org_id, NEW.at, 'health', NEW.key, jsonb_build_object(
    'status', jsonb_build_object('from', NEW.before, 'to', NEW.after),
    'reason', jsonb_build_object('from', NEW.before_reason, 'to', NEW.after_reason){severity})
  FROM schedules s WHERE s.key = NEW.key AND s.org_id IS NOT NULL;
  RETURN NULL;
END $$
"""
SEVERITY = """,
    'severity', jsonb_build_object('to',
      CASE NEW.after WHEN 'unhealthy' THEN 'failure' ELSE 'success' END)"""


def upgrade() -> None:
    for statement in (CHANNELS, NOTIFICATIONS, *INDEXES, HEALTH.format(severity=SEVERITY)):
        op.execute(statement)
    for table in ("alert_channels", "notifications"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(KEPT.format(table=table))


def downgrade() -> None:
    op.execute(HEALTH.format(severity=""))
    op.execute("DROP POLICY notifications_kept ON notifications")
    op.execute("ALTER TABLE notifications NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE notifications DISABLE ROW LEVEL SECURITY")
    op.execute("DELETE FROM notifications WHERE org_id IS NOT NULL")
    op.execute("ALTER TABLE notifications DROP COLUMN channel_id, DROP COLUMN org_id")
    op.execute("DROP TABLE alert_channels")
