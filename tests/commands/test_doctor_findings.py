"""The findings of `doctor` on servers that are well, and on facts that are not."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.core import zone_data
from app.core.config import Config
from app.health import doctor, keys, setting_checks
from app.health.doctor import DiagnosticTargets
from app.health.facts import WorkerFacts
from app.health.findings import Finding, Level
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.reports import diagnostics

INSERT_RUN = """
INSERT INTO runs (execution_id, job, trigger, status, queued_at, created_at, lease_expires_at,
                  attempt, losses, max_attempts, timeout_seconds, lease_epoch)
VALUES ($1, 'scrape', 'manual', $2, $3, $3, $4, 1, 0, 3, 240, 0)
"""


@pytest.fixture
def targets(pool: Pool, redis: ArqRedis) -> DiagnosticTargets:
    return DiagnosticTargets(Config(), pool, redis, (), ())


def level(findings: Sequence[Finding], subject: str) -> Level:
    """The worst level of the findings on that subject."""
    order = (Level.FAULT, Level.WARNING, Level.OK)
    found = {finding.level for finding in findings if finding.subject == subject}
    return next(one for one in order if one in found)


async def facts_of(pool: Pool, **changes: Any) -> dict[str, Any]:
    return await diagnostics.server_facts(pool) | changes


def test_an_address_that_no_notifier_takes_is_a_fault() -> None:
    urls = SecretStr("json://example.org slak://s3cret/b/c json:// slack://s3cret")
    routes = SecretStr("* * json://example.org\n* * foo://s3cret")

    findings = setting_checks.of_settings(Config(alert_urls=urls, alert_routes=routes))

    said = [finding.message for finding in findings if finding.subject == "alerts"]
    assert sorted(said) == [
        f"Apprise does not support this {scheme} URL" for scheme in ("foo", "json", "slack", "slak")
    ]


async def test_eviction_without_a_limit_is_a_warning(
    targets: DiagnosticTargets, redis: ArqRedis
) -> None:
    config: Any = redis
    await config.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = await doctor.run_checks(targets)
    finally:
        await config.config_set("maxmemory-policy", "noeviction")

    assert level(found, "redis memory") is Level.WARNING


async def test_a_run_that_waits_for_minutes_is_a_fault_unless_it_is_for_later(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    now = datetime.now(UTC)
    waited = doctor.MAX_QUEUE_WAIT + timedelta(minutes=1)
    await pool.execute(INSERT_RUN, uuid4(), "queued", now - waited, None)
    late = await doctor.run_checks(targets)
    await pool.execute("UPDATE runs SET not_before = $1", now + timedelta(hours=1))
    postponed = await doctor.run_checks(targets)
    await pool.execute("UPDATE runs SET not_before = $1", now - timedelta(seconds=1))
    due = await doctor.run_checks(targets)

    assert level(late, "queue") is Level.FAULT
    assert (level(postponed, "queue"), level(due, "queue")) == (Level.OK, Level.OK)


async def test_a_run_that_lost_its_worker_is_a_fault(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    now = datetime.now(UTC)
    held = await doctor.run_checks(targets)
    await pool.execute(INSERT_RUN, uuid4(), "running", now, now - timedelta(minutes=2))

    lost = await doctor.run_checks(targets)

    assert "runs" not in [one.subject for one in held]
    assert level(lost, "runs") is Level.FAULT


async def test_news_that_were_not_requested_are_a_warning(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    run_id, now = uuid4(), datetime.now(UTC)
    await pool.execute(INSERT_RUN, run_id, "partial_failure", now, None)
    await pool.execute(
        "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
        " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
        " throttled_ms, duration_seconds, errors) VALUES ($1, 'asknews_news', 'partial_failure',"
        " 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, $2)",
        run_id,
        {"Leeds": {"kind": "gap", "error": "two days are missing"}},
    )

    (gap,) = [one for one in await doctor.run_checks(targets) if one.subject == "gap"]

    assert gap.level is Level.WARNING
    assert gap.message == "asknews_news, Leeds: two days are missing"


@pytest.mark.parametrize(
    ("facts", "subject", "expected"),
    [
        ({"connections": 85, "connections_allowed": 100}, "connections", Level.OK),
        ({"connections": 86, "connections_allowed": 100}, "connections", Level.FAULT),
        ({"idle_in_transaction": 1}, "transactions", Level.WARNING),
    ],
)
async def test_the_connections_of_the_server_are_judged(
    pool: Pool, facts: dict[str, Any], subject: str, expected: Level
) -> None:
    found = doctor.connections(await facts_of(pool, **facts))

    assert level(found, subject) is expected


@pytest.mark.parametrize(
    ("facts", "subject", "expected"),
    [
        ({"version": 140_000}, "postgres", Level.FAULT),
        ({"version": 150_000}, "postgres", Level.OK),
        ({"standby": True}, "postgres role", Level.FAULT),
        ({"read_only": True}, "postgres role", Level.FAULT),
        ({"bypasses": True}, "postgres role", Level.WARNING),
    ],
)
async def test_the_version_and_the_role_of_the_server_are_judged(
    pool: Pool, facts: dict[str, Any], subject: str, expected: Level
) -> None:
    found = doctor.server(await facts_of(pool, **facts))

    assert level(found, subject) is expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.9, Level.OK), (2.1, Level.WARNING), (-1.9, Level.OK), (-2.1, Level.WARNING)],
)
def test_a_clock_may_be_two_seconds_ahead_or_behind(seconds: float, expected: Level) -> None:
    finding = doctor.clock("this machine's clock", timedelta(seconds=seconds))

    assert finding.level is expected
    assert ("ahead of" in finding.message) is (seconds > 0)


async def test_the_clocks_of_this_machine_and_of_redis_are_compared(
    targets: DiagnosticTargets,
) -> None:
    found = [one.message for one in await doctor.run_checks(targets) if one.subject == "clock"]

    assert [message.partition(" is ")[0] for message in found] == [
        "this machine's clock",
        "Redis' clock",
    ]


@pytest.mark.parametrize(("free", "expected"), [(11, Level.OK), (9, Level.WARNING)])
def test_a_disk_with_less_than_a_tenth_free_is_a_warning(free: int, expected: Level) -> None:
    assert doctor.disk(100, free).level is expected


async def test_ticks_that_nobody_decides_are_a_fault_unless_their_schedule_cannot_be_read(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    await pool.execute(
        "INSERT INTO schedules (key, job, spec, policies, params, version, enabled, effective_from,"
        " evaluated_through, next_tick_at, due_at) VALUES ('poll', 'poll', '{}', '{}', '{}', 1,"
        " true, now(), now(), now() - interval '1 hour', now() - interval '1 hour')"
    )

    unreadable = await doctor.run_checks(targets)
    spec, policies = Schedule.every(60, name="poll").to_spec(), Policies().to_spec()
    await pool.execute("UPDATE schedules SET spec = $1, policies = $2", spec, policies)
    late = await doctor.run_checks(targets)

    assert (level(unreadable, "schedule"), level(late, "schedule")) == (Level.FAULT, Level.WARNING)
    assert (level(unreadable, "frontier"), level(late, "frontier")) == (Level.OK, Level.FAULT)


async def test_what_the_workers_say_of_themselves_is_judged(
    targets: DiagnosticTargets, redis: ArqRedis
) -> None:
    now = datetime.now(UTC)
    silent = WorkerFacts(now, now, running=2)
    await keys.write_worker(redis, "silent", 60, silent)
    quiet = await doctor.run_checks(targets)
    ahead = WorkerFacts(now, now, running=3, clock_error=9.0, zone_data=zone_data.VERSION)
    await keys.write_worker(redis, "ahead", 60, ahead)

    result = await doctor.run_checks(targets)

    clocks = [one for one in result if one.subject == "clock" and "ahead's clock" in one.message]
    workers = [one.message for one in result if one.subject == "workers"]
    assert [one.level for one in clocks] == [Level.WARNING]
    assert workers == ["2 alive, 5 runs in progress"]
    assert level(quiet, "zone data") is level(result, "zone data") is Level.OK
    assert "worker" not in [one.subject for one in quiet]
    assert not [one for one in quiet if "silent's clock" in one.message]


async def test_a_schedule_that_nothing_declares_is_a_warning_until_it_is_retired(
    pool: Pool, redis: ArqRedis
) -> None:
    now = datetime.now(UTC)
    declared = [
        DeclaredSchedule(key, "scrape", Schedule.every(3600, name=key), Policies())
        for key in ("kept", "gone")
    ]
    await edit.register(pool, declared, now)
    targets = DiagnosticTargets(Config(), pool, redis, (), ("kept",))

    (found,) = [one for one in await doctor.run_checks(targets) if one.subject == "schedule"]
    async with pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, "gone", now)
    after = await doctor.run_checks(targets)

    assert (found.level, found.message) == (Level.WARNING, "gone is no longer declared")
    assert found.fix is not None
    assert found.fix.endswith("rollcall retire gone")
    assert "schedule" not in [one.subject for one in after]


async def test_a_schedule_is_to_be_retired_only_after_what_cannot_be_loaded_is_corrected(
    pool: Pool, redis: ArqRedis
) -> None:
    gone = DeclaredSchedule("gone", "gone", Schedule.every(3600, name="gone"), Policies())
    await edit.register(pool, [gone], datetime.now(UTC))
    job = DiagnosticTargets(Config(), pool, redis, (), (), job_faults=["jobs/gone.py:1: invalid"])
    recipe = DiagnosticTargets(Config(), pool, redis, (), (), recipe_faults=["gone.toml: line 1"])

    findings = [await doctor.run_checks(targets) for targets in (job, recipe)]

    fixes = [one.fix for found in findings for one in found if one.subject == "schedule"]
    fix = "correct what cannot be loaded, see above; only if it was removed: rollcall retire gone"
    assert fixes == [fix, fix]
    assert "jobs/gone.py:1: invalid" in [one.message for one in findings[0]]


async def test_policies_that_cannot_be_read_are_a_fault(pool: Pool, redis: ArqRedis) -> None:
    declared = DeclaredSchedule("scrape", "scrape", Schedule.every(3600, name="scrape"), Policies())
    await edit.register(pool, [declared], datetime.now(UTC))
    await pool.execute('UPDATE schedules SET policies = \'{"overlap": "maybe"}\'')
    targets = DiagnosticTargets(Config(), pool, redis, (), ("scrape",))

    found = await doctor.run_checks(targets)

    assert level(found, "schedule") is Level.FAULT


async def test_one_schedule_that_is_late_is_a_fault_and_none_is_not(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    on_time = await doctor.run_checks(targets)
    declared = DeclaredSchedule("scrape", "scrape", Schedule.every(60, name="scrape"), Policies())
    await edit.register(pool, [declared], datetime.now(UTC) - timedelta(minutes=30))

    (late,) = [one for one in await doctor.run_checks(targets) if one.subject == "frontier"]

    assert level(on_time, "frontier") is Level.OK
    assert late.level is Level.FAULT
    assert late.message.startswith("1 schedule undecided since ")
    assert late.fix == "start a worker that declares them; due ticks are decided at once"


async def test_the_queue_and_the_database_are_told_in_numbers(
    targets: DiagnosticTargets, pool: Pool
) -> None:
    now = datetime.now(UTC)
    for status, count in (("queued", 2), ("running", 3)):
        for _ in range(count):
            lease = now + timedelta(minutes=1) if status == "running" else None
            await pool.execute(INSERT_RUN, uuid4(), status, now, lease)

    result = {one.subject: one.message for one in await doctor.run_checks(targets)}

    assert result["queue"] == "0 jobs; 2 runs queued, 3 running"
    assert re.search(r", [1-9]\d* MB$", result["postgres"])


async def test_a_check_that_fails_is_a_fault_with_what_mends_it(redis: ArqRedis) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    broken: Any = Broken()
    found = await doctor.run_checks(DiagnosticTargets(Config(), broken, redis, (), ()))

    faults = {one.subject: one.fix for one in found if one.message.startswith("the check failed")}
    assert faults["postgres"] == (
        "check DATABASE_URL, and that the server runs and accepts connections from here"
    )
    assert faults["schema"] == faults["schedules"] == "run `rollcall migrate`"
