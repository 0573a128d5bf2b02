"""The API and the command line show how much of its limits an organisation uses."""

import json
from dataclasses import replace
from typing import Any

from app.core.enums import Scope
from app.store.db import Pool
from tests.api.clients import ODDS, Org, Visitor, api, had_item, had_run, org, other, visitor
from tests.clock import NOON
from tests.orgs.test_commands import app, environment

__all__ = ["api", "environment", "org", "other", "visitor"]

SOURCE = """
INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                         records, inserted, changed, unchanged, rejected, requests, retries, bytes,
                         throttled_ms, duration_seconds)
VALUES ($1, 's', 'success', 1, 0, 7, 5, 2, 3, 0, 0, 7, 0, 9000, 0, 1)
"""


async def used(who: Visitor) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answer = (await who("GET", "/collection/usage")).json()
    return {line["name"]: (line["used"], line["limit"]) for line in answer["limits"]}, answer[
        "months"
    ]


async def test_each_limit_is_shown_with_what_is_used_of_it(
    visitor: Visitor, org: Org, other: Org, pool: Pool
) -> None:
    await pool.execute("""UPDATE organizations SET limits = '{"max_rows": 3}'""")
    await visitor.patch(preset_id=ODDS)
    await had_item(pool, org, NOON)
    await pool.execute(SOURCE, await had_run(pool, org, NOON))
    await pool.execute(
        "INSERT INTO org_sources (org_id, name, recipe, revision) VALUES ($1, 'own', '', 1)", org.id
    )
    stored = await pool.fetchval("SELECT bytes FROM org_usage")

    limits, months = await used(visitor)
    strangers, none = await used(replace(visitor, secret=other.secrets[Scope.READ]))

    assert limits["max_rows"] == (1, 3)
    assert limits["max_stored_mb"] == (round(stored / 1e6, 3), 500)
    assert (limits["max_collections"], limits["runs_per_day"]) == ((1, 10), (1, 300))
    assert limits["max_recipes"][0] == 1
    assert limits["max_pages"][0] is None
    month = f"{NOON:%Y-%m}"
    assert months == [{"month": month, "runs": 1, "pages": 7, "bytes": 9000, "items": 5}]
    assert (strangers["max_rows"], none) == ((0, 3), [])


async def test_the_operator_sees_the_same_on_the_command_line(
    environment: dict[str, str], org: Org, pool: Pool
) -> None:
    await had_item(pool, org, NOON)
    await had_run(pool, org, NOON)

    report = json.loads(app(environment, "org", "usage", "Acme", "--json").stdout)
    table = app(environment, "org", "usage", "Acme").stdout
    listed = json.loads(app(environment, "org", "list", "--json").stdout)

    lines = {line["name"]: line["used"] for line in report["limits"]}
    assert lines["max_rows"] == 1
    assert "max_stored_mb" in table
    assert "month" in table
    assert report["months"][0]["month"] in table
    assert listed[0]["rows"] == 1
