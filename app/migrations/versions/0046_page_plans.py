"""Let Postgres find the rows of pages in indexes, also under row-level security

Postgres expects that one row in 200 is visible if a policy compares a setting with a text, and then
reads and sorts all rows of a schedule or a source instead of following the index that has them in
order. If the comparison itself is the subquery, it expects every second row. The indexes have all
that the calendar of ticks and the chart of sentiments read.
"""

from alembic import op
from sqlalchemy import text

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

# Every policy of the present schema.
POLICIES = """
SELECT format('%I', policyname) AS policy, format('%I.%I', schemaname, tablename) AS "table", qual,
       with_check
FROM pg_policies WHERE schemaname = current_schema() ORDER BY 2, 1
"""
# How a policy asks whether the session is the operator, as Postgres prints it.
COMPARED = (
    "(( SELECT current_setting('rollcall.house'::text, true) AS current_setting) = 'on'::text)"
)
# The same comparison within the subquery, evaluated once for a statement.
SUBQUERY = "(SELECT current_setting('rollcall.house', true) = 'on')"
SHOWN = "( SELECT (current_setting('rollcall.house'::text, true) = 'on'::text))"


def upgrade() -> None:
    _replace(COMPARED, SUBQUERY)
    for index in ("ticks_not_run", "articles_published"):
        op.execute(f"DROP INDEX {index}")
    op.execute(
        "CREATE INDEX ticks_not_run ON ticks (schedule_id, scheduled_for) INCLUDE (outcome, reason)"
        " WHERE outcome <> 'ran'"
    )
    op.execute("CREATE INDEX articles_published ON articles (published_at) INCLUDE (sentiment)")


def downgrade() -> None:
    for index in ("ticks_not_run", "articles_published"):
        op.execute(f"DROP INDEX {index}")
    op.execute(
        "CREATE INDEX ticks_not_run ON ticks (schedule_id, scheduled_for) WHERE outcome <> 'ran'"
    )
    op.execute("CREATE INDEX articles_published ON articles (published_at)")
    _replace(SHOWN, "((SELECT current_setting('rollcall.house', true)) = 'on')")


def _replace(old: str, new: str) -> None:
    for policy, table, seen, written in op.get_bind().execute(text(POLICIES)).all():
        clauses = [
            f"{keyword} ({expression.replace(old, new)})"
            for keyword, expression in (("USING", seen), ("WITH CHECK", written))
            if expression is not None and old in expression
        ]
        if clauses:
            op.execute(f"ALTER POLICY {policy} ON {table} {' '.join(clauses)}")
