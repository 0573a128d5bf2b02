"""Keep open runs out of the index of runs that did not succeed

If `runs` was analysed while all runs had succeeded, Postgres took that index for empty, and scanned
it whole for each schedule whose open runs a decision reads: 100,000 due took 95 s instead of 10.
"""

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX runs_unsuccessful ON runs (created_at)"
        " WHERE status NOT IN ('success', 'queued', 'running')"
    )
    op.execute("DROP INDEX runs_not_success")


def downgrade() -> None:
    op.execute("CREATE INDEX runs_not_success ON runs (created_at) WHERE status <> 'success'")
    op.execute("DROP INDEX runs_unsuccessful")
