"""Organisations, their tokens, presets and items; and row-level security wherever one owns a row."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Asked once for a statement, not once for a row.
HOUSE = "(SELECT current_setting('rollcall.house', true)) = 'on'"
MINE = "org_id = (SELECT nullif(current_setting('rollcall.org', true), '')::uuid)"
ITSELF = MINE.removeprefix("org_")
NULL_OR_MINE = f"org_id IS NULL OR {MINE}"

OWN = ("api_tokens", "collection_presets", "schedules", "runs", "schedule_edits", "items")
OF_SCHEDULE = ("schedules", "parent.id = {}.schedule_id")
OF_RUN = ("runs", "parent.execution_id = {}.execution_id")
BY_PARENT = {
    "schedule_versions": OF_SCHEDULE,
    "ticks": OF_SCHEDULE,
    "tick_gaps": OF_SCHEDULE,
    "run_events": OF_RUN,
    "run_sources": OF_RUN,
    "rejected_records": OF_RUN,
    "raw_pages": OF_RUN,
}

BUILT_IN = """
INSERT INTO collection_presets (id, org_id, name, sources, revision) VALUES
  ('00000000-0000-4000-8000-000000000001', NULL, 'odds',
   '[{"source": "sportybet"}, {"source": "betpawa"}, {"source": "bet9ja"}]', 1),
  ('00000000-0000-4000-8000-000000000002', NULL, 'news', '[{"source": "asknews_news"}]', 1)
"""


def upgrade() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "limits",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("scope IN ('read', 'operate', 'admin')", name="api_tokens_scope"),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("api_tokens_org", "api_tokens", ["org_id"], unique=False)
    op.create_table(
        "collection_presets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "sources",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "collection_presets_name",
        "collection_presets",
        [
            sa.literal_column("coalesce(org_id, '00000000-0000-0000-0000-000000000000'::uuid)"),
            "name",
        ],
        unique=True,
    )
    op.create_table(
        "items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column(
            "data",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "items_changed",
        "items",
        ["org_id", sa.literal_column("changed_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    # Plain columns: behind row-level security no expression on them may be looked up in an index.
    op.create_index(
        "items_key",
        "items",
        ["org_id", "source", "key"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "schedule_edits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "schedule_edits_schedule", "schedule_edits", ["schedule_id", "at"], unique=False
    )
    op.add_column("runs", sa.Column("org_id", sa.Uuid(), nullable=True))
    op.create_index(
        "runs_org",
        "runs",
        ["org_id", sa.literal_column("created_at DESC"), "execution_id"],
        unique=False,
        postgresql_where=sa.text("org_id IS NOT NULL"),
    )
    op.create_foreign_key(
        "runs_org_id_fkey", "runs", "organizations", ["org_id"], ["id"], ondelete="CASCADE"
    )
    op.add_column("schedules", sa.Column("preset_id", sa.Uuid(), nullable=True))
    op.add_column(
        "schedules",
        sa.Column("notify", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "schedules",
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column("schedules", sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "schedules_org",
        "schedules",
        ["org_id"],
        unique=True,
        postgresql_where=sa.text("org_id IS NOT NULL"),
    )
    op.create_index(
        "schedules_preset",
        "schedules",
        ["preset_id"],
        unique=False,
        postgresql_where=sa.text("preset_id IS NOT NULL"),
    )
    op.create_foreign_key(
        "schedules_org_id_fkey",
        "schedules",
        "organizations",
        ["org_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_foreign_key(
        "schedules_preset_id_fkey", "schedules", "collection_presets", ["preset_id"], ["id"]
    )
    op.execute(BUILT_IN)
    _secure("organizations", ITSELF, ITSELF)
    for table in OWN:
        _secure(table, NULL_OR_MINE, MINE)
    for table, (parent, link) in BY_PARENT.items():
        seen = f"EXISTS (SELECT 1 FROM {parent} parent WHERE {link.format(table)})"  # noqa: S608 - our own text
        _secure(table, seen, f"{seen[:-1]} AND parent.{MINE})")


def _secure(table: str, readable: str, writable: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {table}_seen ON {table} FOR SELECT USING ({HOUSE} OR {readable})")
    op.execute(f"CREATE POLICY {table}_kept ON {table} USING ({HOUSE} OR {writable})")


def _expose(table: str) -> None:
    op.execute(f"DROP POLICY {table}_seen ON {table}")
    op.execute(f"DROP POLICY {table}_kept ON {table}")
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    for table in (*BY_PARENT, *OWN, "organizations"):
        _expose(table)
    op.drop_constraint("schedules_preset_id_fkey", "schedules", type_="foreignkey")
    op.drop_constraint("schedules_org_id_fkey", "schedules", type_="foreignkey")
    op.drop_index(
        "schedules_preset",
        table_name="schedules",
        postgresql_where=sa.text("preset_id IS NOT NULL"),
    )
    op.drop_index(
        "schedules_org", table_name="schedules", postgresql_where=sa.text("org_id IS NOT NULL")
    )
    op.drop_column("schedules", "retired_at")
    op.drop_column("schedules", "revision")
    op.drop_column("schedules", "notify")
    op.drop_column("schedules", "preset_id")
    op.drop_constraint("runs_org_id_fkey", "runs", type_="foreignkey")
    op.drop_index("runs_org", table_name="runs", postgresql_where=sa.text("org_id IS NOT NULL"))
    op.drop_column("runs", "org_id")
    op.drop_index("schedule_edits_schedule", table_name="schedule_edits")
    op.drop_table("schedule_edits")
    op.drop_index("items_key", table_name="items")
    op.drop_index("items_changed", table_name="items")
    op.drop_table("items")
    op.drop_index("collection_presets_name", table_name="collection_presets")
    op.drop_table("collection_presets")
    op.drop_index("api_tokens_org", table_name="api_tokens")
    op.drop_table("api_tokens")
    op.drop_table("organizations")
