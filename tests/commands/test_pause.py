"""`pause`, `resume`, `why`, `login` and `migrate` as they are typed."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.core.errors import UnknownJob, WrongState
from app.embedded import Servers
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.orgs import one_time_login
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store import schema
from app.store.db import Pool, open_pool
from tests import servers as real
from tests.commands.conftest import Rollcall, RollcallJson


async def register(pool: Pool, ago: timedelta = timedelta()) -> datetime:
    """Declare a schedule of one minute as it was `ago`; return the instant."""
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(60, anchor=EPOCH)
    declared = DeclaredSchedule("scrape", "scrape", schedule, Policies())
    await edit.register(pool, [declared], now - ago)
    return now


async def test_pause_records_who_and_why_and_resume_ends_it(rollcall: Rollcall, pool: Pool) -> None:
    await register(pool)

    paused = await rollcall("pause", "scrape", "--note", "the site moves")
    during = await pool.fetchrow("SELECT paused_at, paused_by, paused_note FROM schedules")
    resumed = await rollcall("resume", "scrape")
    after = await pool.fetchrow("SELECT paused_at, paused_by, paused_note FROM schedules")

    assert (paused.exit_code, paused.stdout) == (0, "scrape is paused: the site moves\n")
    assert during is not None
    assert during["paused_at"] is not None
    assert during["paused_by"]
    assert during["paused_note"] == "the site moves"
    assert (resumed.exit_code, resumed.stdout) == (0, "scrape is resumed\n")
    assert after is not None
    assert tuple(after) == (None, None, None)


async def test_a_pause_by_somebody_else_is_kept_and_a_second_resume_changes_nothing(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    await edit.pause(pool, "scrape", await register(pool), by="ada", note="the site moves")

    again = await rollcall("pause", "scrape", "--note", "for good")
    note = await pool.fetchval("SELECT paused_note FROM schedules")
    await rollcall("resume", "scrape")
    resumed = await rollcall("resume", "scrape")
    result = await rollcall_json("resume", "scrape")

    assert isinstance(again.exception, WrongState)
    assert "the site moves" in str(again.exception)
    assert note == "the site moves"
    assert (resumed.exit_code, resumed.stdout) == (0, "scrape was not paused; nothing changed\n")
    assert result == {"job": "scrape", "paused": False, "resumed": False}
    assert await pool.fetchval("SELECT count(*) FROM schedule_edits") == 2


async def test_resume_records_the_ticks_of_the_pause(rollcall: Rollcall, pool: Pool) -> None:
    now = await register(pool, timedelta(minutes=10))
    await edit.pause(pool, "scrape", now - timedelta(minutes=5), by="ada", note="")

    await rollcall("resume", "scrape")

    count = await pool.fetchval("SELECT count(*) FROM ticks WHERE reason = 'paused'")
    assert count in {5, 6}


@pytest.mark.parametrize("words", [("pause", "nobody", "--note", "moves"), ("resume", "nobody")])
async def test_an_unknown_job_is_refused(rollcall: Rollcall, words: tuple[str, ...]) -> None:
    result = await rollcall(*words)

    assert result.exit_code != 0
    assert isinstance(result.exception, UnknownJob)


async def test_why_explains_a_tick_of_a_pause_with_its_note(rollcall: Rollcall, pool: Pool) -> None:
    now = await register(pool, timedelta(minutes=10))
    await edit.pause(pool, "scrape", now - timedelta(minutes=8), by="ada", note="the site moves")
    tick = (now - timedelta(minutes=5)).replace(second=0, microsecond=0)
    await edit.resume(pool, "scrape", now, by="ada")

    result = await rollcall("why", "scrape", tick.isoformat())

    assert result.exit_code == 0
    assert tick.strftime("%H:%M") in result.stdout
    assert "paused" in result.stdout


async def test_why_of_an_unknown_job_is_no_usage_error(rollcall: Rollcall) -> None:
    result = await rollcall("why", "nobody")

    assert isinstance(result.exception, UnknownJob)
    assert "nobody" in str(result.exception)
    assert "Usage" not in result.output


async def test_login_prints_an_address_that_signs_in_once(
    rollcall: Rollcall, pool: Pool, redis: ArqRedis
) -> None:
    result = await rollcall("login", "--base", "https://rollcall.example/")

    base, _, secret = result.stdout.strip().partition("/login?once=")
    now = await pool.fetchval("SELECT clock_timestamp()")
    hour = timedelta(hours=1)
    first = await one_time_login.redeem_login(redis, pool, secret, now, hour)
    second = await one_time_login.redeem_login(redis, pool, secret, now, hour)
    assert base == "https://rollcall.example"
    assert first is not None
    assert first.scope is Scope.ADMIN
    assert second is None


async def test_login_at_an_address_that_no_browser_opens_is_refused(
    rollcall: Rollcall, redis: ArqRedis
) -> None:
    result = await rollcall("login", "--base", "rollcall.example.org")

    assert result.exit_code == 2
    assert "must start with http:// or https://" in result.stderr
    assert await redis.execute_command("DBSIZE") == 0  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here


async def test_login_is_at_the_address_of_the_settings(
    rollcall: Rollcall, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = await rollcall("login")
    monkeypatch.setenv("PUBLIC_URL", "https://rollcall.example")
    public = await rollcall("login", "--json")

    assert local.stdout.startswith("http://127.0.0.1:8000/login?once=")
    assert json.loads(public.stdout)["url"].startswith("https://rollcall.example/login?once=")


@pytest.fixture
async def empty(servers: Servers) -> AsyncGenerator[str]:
    """An empty database."""
    name = f"migrate_{uuid4().hex}"
    yield await real.create_database(servers, name)
    await real.drop_database(servers, name)


async def test_migrate_upgrades_an_empty_database(
    rollcall: Rollcall, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty)

    result = await rollcall("migrate")

    pool = await open_pool(empty, size=1)
    revision = await schema.database_revision(pool)
    pool.terminate()
    assert result.exit_code == 0
    assert revision == schema.required_revision()


async def test_jobs_names_the_next_tick_that_is_not_excluded(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = datetime.now(UTC)
    policies = Policies(exclude=Exclusions(start=(now + timedelta(days=30)).isoformat()))
    every_day = Schedule.every(86_400, anchor=now)
    await edit.edit(pool, DeclaredSchedule("later", "poll_news", every_day, policies), now)

    (row,) = await rollcall_json("jobs")

    assert datetime.fromisoformat(row["next"]) == now + timedelta(days=30)
