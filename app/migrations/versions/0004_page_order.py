"""Order pages by a sequence, not by clocks, which may step back."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The tables whose rows one page may write after another.
TABLES = ("odds_events", "items", "page_validators")


def upgrade() -> None:
    op.execute("CREATE SEQUENCE page_orders")
    # The order of the page whose transaction this is; null if it stores no page.
    op.execute("""
CREATE FUNCTION page_order() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT nullif(current_setting('rollcall.page_order', true), '')::bigint $$
""")
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ADD COLUMN page_order bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} DROP COLUMN page_order")
    op.execute("DROP FUNCTION page_order()")
    op.execute("DROP SEQUENCE page_orders")
