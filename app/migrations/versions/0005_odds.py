"""odds: fingerprints, sightings, withdrawals, and the moves in one table for each month"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOVES = "event_id, market, line, outcome, price, active, observed_at, run_id"


def upgrade() -> None:
    op.add_column("odds_events", sa.Column("partition", sa.String(), nullable=True))
    op.add_column(
        "odds_events", sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "odds_events", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("odds_events", sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("odds_events", sa.Column("seen_run_id", sa.Uuid(), nullable=True))
    op.add_column("odds_events", sa.Column("fingerprint", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE odds_events SET seen_at = updated_at, seen_run_id = run_id")
    op.alter_column("odds_events", "seen_at", nullable=False)
    op.alter_column("odds_events", "seen_run_id", nullable=False)
    op.create_index("odds_events_board", "odds_events", ["platform", "partition", "kickoff"])
    op.alter_column("odds_prices", "price", nullable=True)
    # Room on each page for the next version of its rows, so that a move touches no index.
    op.execute("ALTER TABLE odds_events SET (fillfactor = 80)")
    op.execute("ALTER TABLE odds_prices SET (fillfactor = 80)")
    op.create_table(
        "odds_boards",
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("partition", sa.String(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "partition"),
    )
    op.create_table(
        "odds_event_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("after", sa.String(), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "what IN ('kickoff', 'teams', 'competition', 'withdrawn', 'returned')",
            name="odds_event_changes_what",
        ),
        sa.ForeignKeyConstraint(["event_id"], ["odds_events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("odds_event_changes_event", "odds_event_changes", ["event_id", "observed_at"])
    _moves_by_month()


def _moves_by_month() -> None:
    op.execute("ALTER TABLE odds_price_changes RENAME TO odds_price_changes_before")
    op.drop_index("odds_price_changes_path", "odds_price_changes_before")
    op.drop_index("odds_price_changes_when", "odds_price_changes_before")
    op.create_table(
        "odds_price_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("line", sa.Numeric(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "observed_at", "id", name="odds_price_changes_path"),
        postgresql_partition_by="RANGE (observed_at)",
    )
    op.execute("CREATE TABLE odds_price_changes_rest PARTITION OF odds_price_changes DEFAULT")
    op.execute(
        f"INSERT INTO odds_price_changes ({MOVES})"  # noqa: S608 - our own words
        f" SELECT {MOVES} FROM odds_price_changes_before ORDER BY id"
    )
    op.drop_table("odds_price_changes_before")


def downgrade() -> None:
    op.execute("ALTER TABLE odds_price_changes RENAME TO odds_price_changes_after")
    op.execute("ALTER INDEX odds_price_changes_path RENAME TO odds_price_changes_after_path")
    op.create_table(
        "odds_price_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("line", sa.Numeric(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["odds_events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(
        f"INSERT INTO odds_price_changes ({MOVES})"  # noqa: S608 - our own words
        f" SELECT {MOVES} FROM odds_price_changes_after WHERE price IS NOT NULL ORDER BY id"
    )
    op.drop_table("odds_price_changes_after")
    op.create_index(
        "odds_price_changes_path",
        "odds_price_changes",
        ["event_id", "market", "outcome", "observed_at"],
    )
    op.create_index(
        "odds_price_changes_when",
        "odds_price_changes",
        ["observed_at"],
        postgresql_using="brin",
    )
    op.drop_table("odds_event_changes")
    op.drop_table("odds_boards")
    op.execute("DELETE FROM odds_prices WHERE price IS NULL")
    op.execute("ALTER TABLE odds_prices RESET (fillfactor)")
    op.execute("ALTER TABLE odds_events RESET (fillfactor)")
    op.alter_column("odds_prices", "price", nullable=False)
    op.drop_index("odds_events_board", "odds_events")
    for column in (
        "fingerprint",
        "seen_run_id",
        "seen_at",
        "withdrawn_at",
        "absent_since",
        "partition",
    ):
        op.drop_column("odds_events", column)
