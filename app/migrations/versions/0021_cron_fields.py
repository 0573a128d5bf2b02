"""Keep what each cron expression was read as, so that another parser does not change its ticks"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from cronsim import CronSim, CronSimError

from app.scheduling import cron_fields

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# Every cron expression that is stored.
EXPRESSIONS = """
SELECT spec ->> 'cron' FROM schedules WHERE jsonb_typeof(spec -> 'cron') = 'string'
UNION
SELECT spec ->> 'cron' FROM schedule_versions WHERE jsonb_typeof(spec -> 'cron') = 'string'
"""
# Adds its fields to each spec with this expression.
STORE = (
    """
UPDATE schedules SET spec = spec || jsonb_build_object('fields', CAST(:fields AS text))
WHERE spec ->> 'cron' = :expression
""",
    """
UPDATE schedule_versions SET spec = spec || jsonb_build_object('fields', CAST(:fields AS text))
WHERE spec ->> 'cron' = :expression
""",
)
# Back to specs without fields.
REMOVE = (
    "UPDATE schedules SET spec = spec - 'fields' WHERE spec ? 'fields'",
    "UPDATE schedule_versions SET spec = spec - 'fields' WHERE spec ? 'fields'",
)


def upgrade() -> None:
    connection = op.get_bind()
    read: list[dict[str, str]] = []
    for (expression,) in connection.execute(sa.text(EXPRESSIONS)):
        try:
            sim = CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a wall clock has no zone
        except CronSimError:
            continue  # nothing reads it
        read.append({"expression": expression, "fields": cron_fields.to_text(sim)})
    for statement in STORE if read else ():
        connection.execute(sa.text(statement), read)


def downgrade() -> None:
    for statement in REMOVE:
        op.execute(statement)
