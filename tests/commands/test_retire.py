"""A schedule that the code declares no more is named by the doctor and ended by `retire`."""

from datetime import datetime, timedelta
from uuid import uuid4

from arq.connections import ArqRedis

from app.cli import terminal
from app.core.errors import UnknownJob, WrongState
from app.health import keys
from app.ledger import edit as ledger
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from tests.commands.conftest import Rollcall, RollcallJson
from tests.published import publish_all_jobs


async def left_behind(pool: Pool) -> datetime:
    """A schedule of ten minutes whose job is in the code no more."""
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    old = DeclaredSchedule("old", "old", Schedule.every(600, name="old"), Policies())
    await ledger.register(pool, [old], now - timedelta(minutes=30))
    return now


async def test_the_doctor_names_it_until_it_is_retired(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool, redis: ArqRedis
) -> None:
    await left_behind(pool)
    await publish_all_jobs(pool, redis)
    before = [one for one in await rollcall_json("doctor", code=1) if one["what"] == "schedule"]

    done = await rollcall("retire", "old")

    after = [one for one in await rollcall_json("doctor", code=1) if one["what"] == "schedule"]
    await publish_all_jobs(pool, redis)
    edit = await pool.fetchrow("SELECT action FROM schedule_edits")
    assert [one["said"] for one in before] == ["old is no longer declared"]
    assert "rollcall retire old" in before[0]["mend"]
    assert (done.exit_code, after) == (0, [])
    assert await keys.read_jobs(redis) == {}
    assert edit is not None
    assert edit["action"] == "retired"


async def test_its_past_is_still_verified(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    await left_behind(pool)

    await rollcall("retire", "old")

    (result,) = await rollcall_json("verify")
    assert result["expected"] > 0
    assert result["unaccounted"] == 0


async def test_its_queued_runs_are_cancelled_and_those_of_others_stay(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = await left_behind(pool)
    schedule_id = await pool.fetchval("SELECT id FROM schedules")
    for key, of in (("old", schedule_id), ("old", None), ("other", None)):
        request = RunRequest(uuid4(), key, {}, "ann", 3, 60.0, schedule_id=of)
        await run_rows.request(pool, request, now - timedelta(minutes=10))

    done = await rollcall("retire", "old")

    rows = await pool.fetch(
        "SELECT job, status, error_message FROM runs WHERE trigger = 'manual' ORDER BY job, status"
    )
    (account,) = await rollcall_json("verify")
    by = terminal.current_user()
    assert "queued runs that are cancelled: " in done.stdout
    assert [tuple(row) for row in rows] == [
        ("old", "cancelled", f"cancelled by {by}: its job is retired"),
        ("old", "cancelled", f"cancelled by {by}: its job is retired"),
        ("other", "queued", None),
    ]
    assert (account["stuck"], account["unaccounted"]) == (0, 0)


async def test_who_declares_it_again_revives_it(rollcall: Rollcall, pool: Pool) -> None:
    now = await left_behind(pool)
    await rollcall("retire", "old")

    again = DeclaredSchedule("old", "old", Schedule.every(600, name="old"), Policies())
    await ledger.register(pool, [again], now + timedelta(minutes=1))

    assert await pool.fetchval("SELECT retired_at IS NULL AND enabled FROM schedules")


async def test_what_is_declared_or_is_not_there_is_not_retired(
    rollcall: Rollcall, pool: Pool
) -> None:
    await left_behind(pool)

    declared = await rollcall("retire", "scrape_all_platforms")
    theirs = await rollcall("retire", "collection:x")
    nobody = await rollcall("retire", "nobody")

    assert isinstance(declared.exception, WrongState)
    assert theirs.exit_code == 2
    assert isinstance(nobody.exception, UnknownJob)
