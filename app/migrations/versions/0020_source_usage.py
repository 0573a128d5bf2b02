"""Count the requests that a source with a monthly budget has made"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# What a source has used of its monthly budget.
TABLE = """
CREATE TABLE source_usage (
    source varchar NOT NULL,
    month date NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (source, month)
)
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE source_usage")
