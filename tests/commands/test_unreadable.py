"""Beside a schedule that cannot be read, workers start, others go on, and every command works."""

from datetime import UTC, datetime

from arq.connections import ArqRedis

from app.core.enums import HealthReason, JobStatus
from app.health.judge import judge
from app.health.keys import read_jobs
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from tests.commands.conftest import Rollcall, RollcallJson, Working
from tests.wait import until

SPARE = DeclaredSchedule("spare", "poll_news", Schedule.every(60), Policies())
BREAK = """
UPDATE schedules SET spec = '{"cron": "0 9 * * *", "timezone": "Mars/Phobos"}', due_at = now()
WHERE key = 'spare'
"""


async def test_a_worker_and_every_command_go_on_and_retire_mends_it(
    rollcall: Rollcall, rollcall_json: RollcallJson, working: Working, pool: Pool, redis: ArqRedis
) -> None:
    await edit.edit(pool, SPARE, datetime.now(UTC))
    await pool.execute(BREAK)

    async with working():

        async def scraped() -> bool:
            return bool(
                await pool.fetchval(
                    "SELECT count(*) FROM schedules WHERE key = 'scrape_all_platforms'"
                )
            )

        await until(scraped, 20, "the other schedules")
        facts = (await read_jobs(redis))["spare"]
        jobs = {row["job"]: row for row in await rollcall_json("jobs")}
        accounts = {row["schedule"]: row for row in await rollcall_json("verify")}
        said = await rollcall("why", "spare")
        paused = await rollcall("pause", "spare", "--note", "broken")
        resumed = await rollcall("resume", "spare")
        retired = await rollcall("retire", "spare")

    health = judge(facts, datetime.now(UTC))
    assert (health.status, health.reason) == (JobStatus.UNHEALTHY, HealthReason.UNREADABLE)
    assert "Mars/Phobos" in (facts.unreadable or "")
    assert "Mars/Phobos" in jobs["spare"]["due"]
    assert "Mars/Phobos" in accounts["spare"]["unreadable"]
    assert accounts["scrape_all_platforms"]["unreadable"] is None
    assert "Mars/Phobos" in said.stdout
    assert [one.exit_code for one in (said, paused, resumed, retired)] == [0, 0, 0, 0]
    assert (await rollcall_json("verify"))[-1]["unreadable"] is None
