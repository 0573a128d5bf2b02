"""Keep ticks in a table of days, of which retention drops whole ones

What was decided so far becomes one partition, as it is: only its bound is checked, which reads it
once. Retention deletes from it in batches until the last of its days is old, and drops it then.
"""

from datetime import UTC, datetime, timedelta

from alembic import op
from sqlalchemy import text

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

DAYS = 3
# Partitioned by day; columns, defaults and checks are those of the table before.
TABLE = """
CREATE TABLE ticks (LIKE ticks_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
PARTITION BY RANGE (scheduled_for)
"""
# Back to one table.
PLAIN = "CREATE TABLE ticks (LIKE ticks_days INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
# What a copy of columns leaves out: keys and indexes.
KEYS = (
    "ALTER TABLE ticks ADD PRIMARY KEY (schedule_id, scheduled_for)",
    "ALTER TABLE ticks ADD CONSTRAINT ticks_schedule_id_fkey"
    " FOREIGN KEY (schedule_id) REFERENCES schedules (id) ON DELETE CASCADE",
    "CREATE INDEX ticks_not_run ON ticks (schedule_id, scheduled_for) INCLUDE (outcome, reason)"
    " WHERE outcome <> 'ran'",
)
# Counts decided ticks, as before.
TRIGGER = """
CREATE TRIGGER metric_ticks_decided AFTER INSERT ON ticks REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION metric_ticks_decided()
"""
# The operator's sessions see all rows.
OPERATOR = "(SELECT current_setting('rollcall.house', true) = 'on')"
# As the schedule that they belong to.
POLICY = f"""
CREATE POLICY ticks_kept ON ticks USING ({OPERATOR} OR EXISTS (
  SELECT 1 FROM schedules parent WHERE parent.id = ticks.schedule_id
  AND parent.org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)))
"""  # noqa: S608 - constants
# Of the table and of each partition, which can be read by its own name.
SECURE = (
    "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
)
# By its own name, a partition shows its rows to the operator, who copies it, and to nobody else.
OF_A_PARTITION = f"CREATE POLICY {{name}}_kept ON {{name}} USING ({OPERATOR})"
# The partitions of changes.
UNREADABLE_BY_NAME = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'changes'::regclass
"""


def upgrade() -> None:
    # A session without settings, such as that of `alembic upgrade`, would move no rows.
    op.execute("SELECT set_config('rollcall.house', 'on', true)")
    _lock()
    op.execute("ALTER TABLE ticks RENAME TO ticks_before")
    op.execute("DROP TRIGGER metric_ticks_decided ON ticks_before")
    op.execute("ALTER INDEX ticks_pkey RENAME TO ticks_before_pkey")
    op.execute("ALTER INDEX ticks_not_run RENAME TO ticks_before_not_run")
    op.execute("ALTER POLICY ticks_kept ON ticks_before RENAME TO ticks_before_old")
    for statement in (TABLE, *KEYS, TRIGGER, POLICY):
        op.execute(statement)
    _secure("ticks")
    op.execute("CREATE TABLE ticks_rest PARTITION OF ticks DEFAULT")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today + timedelta(days=ahead) for ahead in range(1, DAYS)]
    parts = ["ticks_rest"]
    if op.get_bind().scalar(text("SELECT EXISTS (SELECT FROM ticks_before)")):
        _attach(f"{days[0]:%Y-%m-%d}+00")
        op.execute("DROP POLICY ticks_before_old ON ticks_before")
        parts.append("ticks_before")
    else:
        op.execute("DROP TABLE ticks_before")
        days.insert(0, today)
    parts += [_day(day) for day in days]
    for name in parts:
        _secure(name)
        op.execute(OF_A_PARTITION.format(name=name))
    for (name,) in op.get_bind().execute(text(UNREADABLE_BY_NAME)).all():
        op.execute(OF_A_PARTITION.format(name=name))


def _lock() -> None:
    """Wait for those who decide, in the order in which they lock the two tables."""
    op.execute("LOCK TABLE schedules IN SHARE ROW EXCLUSIVE MODE")
    op.execute("LOCK TABLE ticks IN ACCESS EXCLUSIVE MODE")


def _attach(until: str) -> None:
    """Make all ticks so far a partition; those of later instants go into the default one."""
    op.execute(
        "WITH later AS (DELETE FROM ticks_before"  # noqa: S608 - a date
        f" WHERE scheduled_for >= '{until}' RETURNING *)"
        " INSERT INTO ticks_rest SELECT * FROM later"
    )
    op.execute(
        f"ALTER TABLE ticks ATTACH PARTITION ticks_before FOR VALUES FROM (MINVALUE) TO ('{until}')"
    )


def _day(start: datetime) -> str:
    """Create the partition of a day; returns its name. The default one keeps a day that it has."""
    name, since, until = (
        f"ticks_{start:%Y_%m_%d}",
        f"{start:%Y-%m-%d}+00",
        f"{start + timedelta(days=1):%Y-%m-%d}+00",
    )
    within = f"scheduled_for >= '{since}' AND scheduled_for < '{until}'"
    op.execute(
        f"CREATE TEMP TABLE {name}_moved ON COMMIT DROP AS SELECT * FROM ticks_rest WHERE {within}"  # noqa: S608 - dates
    )
    op.execute(f"DELETE FROM ticks_rest WHERE {within}")  # noqa: S608 - dates
    op.execute(f"CREATE TABLE {name} PARTITION OF ticks FOR VALUES FROM ('{since}') TO ('{until}')")
    op.execute(f"INSERT INTO {name} SELECT * FROM {name}_moved")  # noqa: S608 - our own names
    return name


def _secure(name: str) -> None:
    for statement in SECURE:
        op.execute(statement.format(name=name))


def downgrade() -> None:
    op.execute("SELECT set_config('rollcall.house', 'on', true)")
    for (name,) in op.get_bind().execute(text(UNREADABLE_BY_NAME)).all():
        op.execute(f"DROP POLICY {name}_kept ON {name}")
    _lock()
    op.execute("ALTER TABLE ticks RENAME TO ticks_days")
    op.execute("ALTER INDEX ticks_pkey RENAME TO ticks_days_pkey")
    op.execute("ALTER INDEX ticks_not_run RENAME TO ticks_days_not_run")
    op.execute(PLAIN)
    op.execute("INSERT INTO ticks SELECT * FROM ticks_days")
    op.execute("DROP TABLE ticks_days")
    for statement in (*KEYS, TRIGGER, POLICY):
        op.execute(statement)
    _secure("ticks")
