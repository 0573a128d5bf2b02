"""The doctor finds each fault and says what mends it; `prune` says what it would do first."""

import re
from datetime import UTC, datetime, timedelta
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
from tests.commands.conftest import Tell, TellJson, Working


async def found(tell_json: TellJson, code: int = 1) -> dict[str, dict[str, Any]]:
    return {one["what"]: one for one in await tell_json("doctor", code=code)}


async def test_a_house_with_a_worker_is_well(tell_json: TellJson, working: Working) -> None:
    async with working():
        told = await found(tell_json, code=0)

    assert told["workers"]["said"].startswith("1 alive")
    assert (told["zone data"]["level"], zone_data.VERSION in told["zone data"]["said"]) == (
        "ok",
        True,
    )
    assert {one["level"] for one in told.values()} <= {"ok", "warning"}
    assert "ASKNEWS_API_KEY" in told["credentials"]["said"]


async def test_workers_with_other_zone_data_are_a_warning(
    tell_json: TellJson, redis: ArqRedis
) -> None:
    now = datetime.now(UTC)
    await keys.write_worker(redis, "older", 60, WorkerFacts(now, now, zone_data="2020a"))

    told = await found(tell_json, code=0)

    assert told["zone data"]["level"] == "warning"
    assert "2020a" in told["zone data"]["said"]


async def test_no_worker_is_a_fault_with_its_mend(tell_json: TellJson) -> None:
    told = await found(tell_json)

    assert told["workers"]["level"] == "fault"
    assert "arq app.workers.Settings" in told["workers"]["mend"]


async def test_a_redis_that_evicts_is_a_fault(tell_json: TellJson, redis: ArqRedis) -> None:
    config: Any = redis
    await config.config_set("maxmemory", "1gb")
    await config.config_set("maxmemory-policy", "allkeys-lru")
    try:
        told = await found(tell_json)
    finally:
        await config.config_set("maxmemory", "0")
        await config.config_set("maxmemory-policy", "noeviction")

    assert told["redis memory"]["level"] == "fault"
    assert "noeviction" in told["redis memory"]["mend"]


async def test_a_missing_schema_is_a_fault(tell_json: TellJson, pool: Pool) -> None:
    await pool.execute("DELETE FROM alembic_version")

    told = await found(tell_json)

    assert told["schema"]["level"] == "fault"
    assert "migrate" in told["schema"]["mend"]


async def test_schedules_that_nobody_decides_are_a_fault(tell_json: TellJson, pool: Pool) -> None:
    now = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(60, name="scrape")
    declared = DeclaredSchedule("scrape", "scrape", schedule, Policies())
    await register(pool, [declared], now - timedelta(minutes=30))

    told = await found(tell_json)

    assert told["frontier"]["level"] == "fault"


async def test_servers_that_are_away_are_findings(
    tell_json: TellJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    told = await found(tell_json)

    assert (told["postgres"]["level"], told["redis"]["level"]) == ("fault", "fault")


async def test_a_setting_that_cannot_be_used_is_a_finding(
    tell_json: TellJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_JOBS", "many")

    told = await found(tell_json)

    assert "MAX_JOBS" in told["settings"]["said"]


async def test_prune_counts_first_and_the_proof_still_comes_out(
    tell: Tell, tell_json: TellJson, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICK_DAYS", "1")
    now = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(3600, name="scrape")
    declared = DeclaredSchedule("scrape", "scrape", schedule, Policies())
    await register(pool, [declared], now - timedelta(hours=40))
    await decide_schedule(pool, "scrape", now)
    before = await tell_json("verify")

    would = {one["kind"]: one["would go"] for one in await tell_json("prune", "--dry-run")}
    gone = {one["kind"]: one["gone"] for one in await tell_json("prune")}

    after = await tell_json("verify")
    assert would["ticks"] == gone["ticks"] == after[0]["pruned"]
    assert (after[0]["expected"], after[0]["unaccounted"]) == (before[0]["expected"], 0)
    assert re.search(r"unaccounted: 0", (await tell("verify")).output)
