"""Revision 0021 stores what each cron expression is read as, and is undone without a trace."""

import asyncio
from typing import Any

import asyncpg

from app import migrations
from app.store.db import OPERATOR_SESSION
from tests.upgrades.databases import executed

ROWS = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                       evaluated_through)
SELECT key, 'job', spec::jsonb, '{}', '{}', 1, now(), true, now() FROM (VALUES
  ('cron', '{"cron": "0 9 * * MON", "timezone": "UTC", "jitter_seconds": 0}'),
  ('every', '{"every_seconds": 60}'), ('broken', '{"cron": "rubbish"}'), ('odd', '{"cron": null}')
) AS s (key, spec);
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, now() FROM schedules;
"""
READ = """
SELECT s.key, s.spec ->> 'fields', v.spec ->> 'fields', s.spec - 'fields'
FROM schedules s JOIN schedule_versions v ON v.schedule_id = s.id ORDER BY 1
"""


async def stored(dsn: str) -> dict[str, tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        return {row[0]: tuple(row)[1:] for row in await connection.fetch(READ)}
    finally:
        await connection.close()


def test_schedules_and_versions_get_their_fields(empty: str) -> None:
    migrations.upgrade(empty, "0008")
    asyncio.run(executed(empty, ROWS))
    before = asyncio.run(stored(empty))

    migrations.upgrade(empty, "0021")
    upgraded = asyncio.run(stored(empty))
    migrations.downgrade(empty, "0008")

    fields = "0 0 9 1-31 1-12 1 and"
    assert {key: row[:2] for key, row in upgraded.items()} == {
        "cron": (fields, fields),
        "every": (None, None),
        "broken": (None, None),
        "odd": (None, None),
    }
    assert asyncio.run(stored(empty)) == before
