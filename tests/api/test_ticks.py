"""What became of the ticks of an organisation's schedule, over HTTP."""

from typing import Any

from arq.connections import ArqRedis

from app.core.enums import TickReason
from app.store.db import Pool
from tests.api.clients import Org, Visitor, fields
from tests.dashboard.fixtures import GOOD, Scene

TICKS = "/collection/ticks"


async def had_ticks(pool: Pool, redis: ArqRedis, org: Org) -> None:
    """A schedule of the organisation and one of the operator, with past ticks."""
    scene = Scene.of(pool, redis)
    schedule_id = await scene.job(
        "collection:x", [GOOD, TickReason.SCHEDULER_DOWN, TickReason.PAUSED, TickReason.LATE]
    )
    await pool.execute("UPDATE schedules SET org_id = $1", org.id)
    await scene.gap(schedule_id, scene.now - scene.now.replace(hour=0, minute=0), 60)
    await scene.job("house", [TickReason.LATE] * 3)


async def test_ticks_are_listed_newest_first_with_their_reasons(
    visitor: Visitor, pool: Pool, redis: ArqRedis, org: Org
) -> None:
    await had_ticks(pool, redis, org)

    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await visitor("GET", TICKS, params=query)).json()
        rows += page["ticks"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    single = [row["reason"] for row in rows if row["count"] == 1]
    assert single == ["late", "paused", "scheduler_down", None]
    assert sorted(row["count"] for row in rows) == [1, 1, 1, 1, 60]
    assert rows[-1]["run_id"] is not None or rows[-2]["run_id"] is not None


async def test_ticks_are_filtered(visitor: Visitor, pool: Pool, redis: ArqRedis, org: Org) -> None:
    await had_ticks(pool, redis, org)

    async def asked(**query: str) -> list[str]:
        page = (await visitor("GET", TICKS, params=query)).json()
        return [row["reason"] or "" for row in page["ticks"]]

    newest = (await visitor("GET", TICKS, params={"limit": 1})).json()["ticks"][0]
    assert sorted(await asked(outcome="missed")) == ["late", "scheduler_down", "scheduler_down"]
    assert await asked(reason="paused") == ["paused"]
    assert await asked(outcome="ran") == [""]
    assert await asked(since=newest["scheduled_for"]) == ["late"]
    assert "late" not in await asked(until=newest["scheduled_for"])
    assert fields(await visitor("GET", TICKS, params={"reason": "bored"})) == ["reason"]
    never = {"outcome": "ran", "reason": "paused"}
    assert fields(await visitor("GET", TICKS, params=never)) == ["reason"]
    assert fields(await visitor("GET", TICKS, params={"cursor": "xyz"})) == ["cursor"]


async def test_a_stranger_sees_no_ticks(
    visitor: Visitor, pool: Pool, redis: ArqRedis, other: Org
) -> None:
    await had_ticks(pool, redis, other)

    page = (await visitor("GET", TICKS)).json()

    assert page == {"ticks": [], "next_cursor": None}
