"""Items that one complete listing lacked, before they count as missing"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE items SET absent_since = missing_since WHERE missing_since IS NOT NULL")


def downgrade() -> None:
    op.drop_column("items", "absent_since")
