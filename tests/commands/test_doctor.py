"""The doctor finds each fault and says what mends it; `prune` says what it would do first."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis

from app.core import zone_data
from app.health import keys
from app.health.facts import WorkerFacts
from app.ledger.decide import decide_schedule
from app.ledger.edit import DeclaredSchedule, register
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.schedules import heartbeats
from tests.commands.conftest import Rollcall, RollcallJson, Working
from tests.redis_process import redis_process


async def found(rollcall_json: RollcallJson, code: int = 1) -> dict[str, dict[str, Any]]:
    return {one["what"]: one for one in await rollcall_json("doctor", code=code)}


async def test_a_system_with_a_worker_is_healthy(
    rollcall_json: RollcallJson, working: Working
) -> None:
    async with working():
        result = await found(rollcall_json, code=0)

    assert result["workers"]["said"].startswith("1 alive")
    assert (result["zone data"]["level"], zone_data.VERSION in result["zone data"]["said"]) == (
        "ok",
        True,
    )
    assert {one["level"] for one in result.values()} <= {"ok", "warning"}
    assert "ASKNEWS_API_KEY" in result["credentials"]["said"]


async def test_workers_with_other_zone_data_are_a_warning(
    rollcall_json: RollcallJson, redis: ArqRedis
) -> None:
    now = datetime.now(UTC)
    await keys.write_worker(redis, "older", 60, WorkerFacts(now, now, zone_data="2020a"))

    result = await found(rollcall_json, code=0)

    assert result["zone data"]["level"] == "warning"
    assert "2020a" in result["zone data"]["said"]


async def test_no_worker_is_a_fault_with_its_mend(rollcall_json: RollcallJson) -> None:
    result = await found(rollcall_json)

    assert result["workers"]["level"] == "fault"
    assert "arq app.workers.Settings" in result["workers"]["mend"]


async def test_a_redis_that_evicts_is_a_fault(rollcall_json: RollcallJson, redis: ArqRedis) -> None:
    config: Any = redis
    await config.config_set("maxmemory", "1gb")
    await config.config_set("maxmemory-policy", "allkeys-lru")
    try:
        result = await found(rollcall_json)
    finally:
        await config.config_set("maxmemory", "0")
        await config.config_set("maxmemory-policy", "noeviction")

    assert result["redis memory"]["level"] == "fault"
    assert "noeviction" in result["redis memory"]["mend"]


async def test_a_redis_that_takes_no_writes_is_a_fault(
    rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_process() as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        await server.refuse_writes()

        result = await found(rollcall_json)

    assert result["redis writes"]["level"] == "fault"
    assert "maxmemory" in result["redis writes"]["mend"]


async def test_a_missing_schema_is_a_fault(rollcall_json: RollcallJson, pool: Pool) -> None:
    await pool.execute("DELETE FROM alembic_version")

    result = await found(rollcall_json)

    assert result["schema"]["level"] == "fault"
    assert "migrate" in result["schema"]["mend"]


async def test_schedules_that_nobody_decides_are_a_fault(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(60, name="scrape")
    declared = DeclaredSchedule("scrape", "scrape", schedule, Policies())
    await register(pool, [declared], now - timedelta(minutes=30))

    result = await found(rollcall_json)

    assert result["frontier"]["level"] == "fault"


async def test_servers_that_are_away_are_findings(
    rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    result = await found(rollcall_json)

    assert (result["postgres"]["level"], result["redis"]["level"]) == ("fault", "fault")


async def test_a_setting_that_cannot_be_used_is_a_finding(
    rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_JOBS", "many")

    result = await found(rollcall_json)

    assert "MAX_JOBS" in result["settings"]["said"]


async def test_a_misspelt_setting_is_a_warning_with_the_name_it_resembles(
    rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LOG_FROMAT=json\nSHOP_KEY=x\n")
    monkeypatch.setenv("DATABASE_POOLSIZE", "9")

    result = [one for one in await rollcall_json("doctor", code=1) if one["what"] == "spelling"]

    assert [(one["said"], one["mend"]) for one in result] == [
        (
            "DATABASE_POOLSIZE in the environment is not a setting",
            "did you mean DATABASE_POOL_SIZE?",
        ),
        ("LOG_FROMAT in .env is not a setting", "did you mean LOG_FORMAT?"),
    ]


async def test_a_name_in_a_setting_that_nothing_has_is_a_warning(
    rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESH_MINUTES", "poll_newz=5,poll_stories=5,collection:a:b=5")
    monkeypatch.setenv("PING_URLS", "nobody=https://hc.example.org/hush")
    monkeypatch.setenv("MONTHLY_REQUESTS", "asknews_news=5,bet9j=5,recipe:books=1")

    result = [one for one in await rollcall_json("doctor", code=1) if one["what"] == "names"]

    assert [one["said"] for one in result] == [
        "FRESH_MINUTES names poll_newz, which is not known",
        "PING_URLS names nobody, which is not known",
        "MONTHLY_REQUESTS names bet9j, which is not known",
    ]
    assert [result[0]["mend"], result[2]["mend"]] == [
        "did you mean poll_news?",
        "did you mean bet9ja?",
    ]
    assert "poll_stories" in result[1]["mend"]


async def test_a_faulty_recipe_and_an_unreadable_schedule_are_faults(
    rollcall_json: RollcallJson, pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shop.toml").write_text('name = "shop"\n')
    monkeypatch.setenv("SOURCES_DIR", str(tmp_path))
    now = await pool.fetchval("SELECT clock_timestamp()")
    declared = DeclaredSchedule("scrape", "scrape", Schedule.every(60, name="scrape"), Policies())
    await register(pool, [declared], now)
    await pool.execute('UPDATE schedules SET spec = \'{"cron": "never"}\'')

    result = await rollcall_json("doctor", code=1)

    faults = {one["what"]: one["said"] for one in result if one["level"] == "fault"}
    assert "shop.toml" in faults["recipe"]
    assert faults["schedule"].startswith("scrape cannot be read, and its ticks are held: ")


async def test_a_worker_for_another_schema_is_a_fault(
    rollcall_json: RollcallJson, redis: ArqRedis
) -> None:
    now = datetime.now(UTC)
    await keys.write_worker(redis, "older", 60, WorkerFacts(now, now, schema="0001"))

    result = await found(rollcall_json)

    assert "older needs schema 0001, and the database has " in result["worker"]["said"]


async def test_a_worker_of_another_database_on_the_same_redis_is_a_fault(
    rollcall_json: RollcallJson, redis: ArqRedis, pool: Pool
) -> None:
    now = datetime.now(UTC)
    earlier = now - timedelta(minutes=5)
    for name, since in (("ours", earlier), ("theirs", earlier), ("new", now)):
        await keys.write_worker(redis, name, 60, WorkerFacts(now, since))
    await heartbeats.start_interval(pool, "ours", now - timedelta(minutes=4))

    result = await rollcall_json("doctor", code=1)

    said = [one["said"] for one in result if one["what"] == "worker"]
    assert said == ["theirs uses this Redis with another Postgres"]


async def test_it_prints_what_mends_each_fault_and_ends_with_1(
    rollcall: Rollcall, redis: ArqRedis
) -> None:
    without = await rollcall("doctor")
    now = datetime.now(UTC)
    await keys.write_worker(redis, "w", 60, WorkerFacts(now, now, zone_data="2020a"))
    warned = await rollcall("doctor")

    assert (without.exit_code, warned.exit_code) == (1, 0)
    assert "-> start one: arq app.workers.Settings" in without.stdout
    assert "-> deploy the same tzdata to every process" in warned.stdout


async def test_what_is_safe_to_fix_is_fixed(
    rollcall_json: RollcallJson, redis: ArqRedis, pool: Pool
) -> None:
    config: Any = redis
    await config.config_set("maxmemory-policy", "allkeys-lru")
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    try:
        result = await rollcall_json("doctor", "--fix", code=1)
        policy = await config.config_get("maxmemory-policy")
    finally:
        await config.config_set("maxmemory-policy", "noeviction")

    levels = {one["what"]: one["level"] for one in result}
    assert [one["said"] for one in result if one["what"] == "fixed"] != []
    assert (levels["schema"], levels["redis memory"]) == ("ok", "ok")
    assert policy["maxmemory-policy"] == "noeviction"


async def test_prune_counts_first_and_the_proof_still_comes_out(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICK_DAYS", "1")
    now = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(3600, name="scrape")
    declared = DeclaredSchedule("scrape", "scrape", schedule, Policies())
    await register(pool, [declared], now - timedelta(hours=40))
    await decide_schedule(pool, "scrape", now)
    before = await rollcall_json("verify")

    would = {one["kind"]: one["would_go"] for one in await rollcall_json("prune", "--dry-run")}
    gone = {one["kind"]: one["gone"] for one in await rollcall_json("prune")}

    after = await rollcall_json("verify")
    assert would["ticks"] == gone["ticks"] == after[0]["pruned"]
    assert (after[0]["expected"], after[0]["unaccounted"]) == (before[0]["expected"], 0)
    assert re.search(r"unaccounted: 0", (await rollcall("verify")).output)
