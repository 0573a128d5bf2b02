"""Diagnostic checks of everything that a worker needs, each with a fix."""

import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from arq.connections import ArqRedis
from arq.constants import default_queue_name
from redis.exceptions import RedisError

from app.core import zone_data
from app.core.config import Config
from app.core.errors import BadSchedule, WrongSchema
from app.core.printable import counted
from app.health import keys, setting_checks
from app.health.facts import WorkerFacts
from app.health.findings import Finding, Repair, fault, faulty_job, ok, warning
from app.health.keys import server_time
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import schema
from app.store.db import Pool
from app.store.reports import diagnostics
from app.store.runs import backlog
from app.store.schedules import schedule_rows

MIN_POSTGRES = 150_000
MIN_REDIS = (6, 2)
MAX_CLOCK_SKEW = timedelta(seconds=2)
MAX_QUEUE_WAIT = timedelta(minutes=5)
MIN_AGE_OF_STRANGER = timedelta(minutes=1)  # a worker has recorded its first heartbeat by then
MIN_FREE_DISK = 0.10  # share of the disk that should be free
MAX_CONNECTION_SHARE = 0.85  # share of the connections in use


@dataclass(frozen=True, slots=True)
class DiagnosticTargets:
    """What the checks examine. `disabled`: disabled jobs, with the reason.

    `declared`: the keys of the schedules that the code and the recipe directory declare.
    `job_faults`, `recipe_faults`: why own jobs and recipes cannot be loaded, one line each.
    """

    config: Config
    pool: Pool | None
    redis: ArqRedis
    disabled: Sequence[tuple[str, str]]
    declared: Collection[str]
    job_faults: Sequence[str] = ()
    recipe_faults: Sequence[str] = ()


Check = Callable[[DiagnosticTargets], Awaitable[Sequence[Finding]]]


async def run_checks(targets: DiagnosticTargets) -> list[Finding]:
    """Run every check. A check that fails becomes a finding. Never raises."""
    found: list[Finding] = [
        *map(faulty_job, targets.job_faults),
        *setting_checks.of_settings(targets.config),
        *setting_checks.of_credentials(targets.disabled),
        *setting_checks.of_recipes(targets.recipe_faults),
    ]
    checks: tuple[tuple[str, Check], ...] = (
        ("redis", _redis), ("workers", _workers), ("queue", _queue),
    )  # fmt: skip
    if targets.pool is not None:
        checks = (*checks, ("postgres", _postgres), ("schema", _schema), ("schedules", _schedules))
    for what, check in checks:
        try:
            found += await check(targets)
        except Exception as error:  # noqa: BLE001 - reported as a finding
            message = f"the check failed: {type(error).__name__}: {error}"
            found.append(fault(what, message, _CHECK_FAILED[what]))
    folder = targets.config.data_dir
    total, _, free = shutil.disk_usage(folder if folder.exists() else Path())
    return [*found, disk(total, free)]


_NO_EVICTION = "set maxmemory-policy to noeviction"
_WRITES_REFUSED = "raise its maxmemory, free its disk, or name the primary server in REDIS_URL"
_CHECK_FAILED = {
    "redis": "check REDIS_URL, and that the server runs and accepts connections from here",
    "workers": "fix Redis first",
    "queue": "fix Redis and Postgres first",
    "postgres": "check DATABASE_URL, and that the server runs and accepts connections from here",
    "schema": "run `rollcall migrate`",
    "schedules": "run `rollcall migrate`",
}


async def _redis(targets: DiagnosticTargets) -> list[Finding]:
    started = time.monotonic()
    info = await _info(targets.redis)
    took = (time.monotonic() - started) * 1000
    version = info.get("valkey_version") or info.get("redis_version")
    found = [ok("redis", f"{version}, responds in {took:.1f} ms")]
    if _version(str(info.get("redis_version", ""))) < MIN_REDIS:
        fix = "upgrade it, or use Valkey"
        found = [fault("redis", f"Redis {version} is too old: 6.2 or newer is needed", fix)]
    refusal = await keys.write_refusal(targets.redis)
    if refusal is not None:
        found.append(fault("redis writes", f"it takes no writes: {refusal}", _WRITES_REFUSED))
    policy = info.get("maxmemory_policy", "unknown")
    if int(info.get("maxmemory") or 0) and policy != "noeviction":
        message = f"evicts keys when memory is short (maxmemory-policy {policy})"
        found.append(fault("redis memory", message, _NO_EVICTION, Repair.NO_EVICTION))
    elif policy != "noeviction":
        message = f"maxmemory-policy is {policy}; no limit is set, so nothing is evicted yet"
        found.append(warning("redis memory", message, _NO_EVICTION, Repair.NO_EVICTION))
    else:
        found.append(ok("redis memory", f"noeviction, {info.get('used_memory_human')} used"))
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


async def _info(redis: ArqRedis) -> dict[str, Any]:
    info: Any = await redis.info()  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    return cast("dict[str, Any]", info)


async def _workers(targets: DiagnosticTargets) -> list[Finding]:
    alive = await keys.read_workers(targets.redis)
    if not alive:
        return [fault("workers", "none is alive", "start one: arq app.workers.Settings")]
    running = sum(facts.running or 0 for facts in alive.values())
    versions = {facts.zone_data for facts in alive.values() if facts.zone_data}
    return [
        ok("workers", f"{len(alive)} alive, {counted(running, 'run')} in progress"),
        *_zone_data(versions),
        *(
            clock(f"worker {worker}'s clock", timedelta(seconds=facts.clock_error))
            for worker, facts in alive.items()
            if facts.clock_error is not None
        ),
        *await _worker_schemas(targets, alive),
        *await _strangers(targets, alive),
    ]


async def _strangers(targets: DiagnosticTargets, alive: Mapping[str, WorkerFacts]) -> list[Finding]:
    """Find workers that use this Redis with another Postgres: each takes the other's jobs."""
    started = {name: facts.started_at for name, facts in alive.items() if facts.started_at}
    if targets.pool is None or not started:
        return []
    known = await diagnostics.beating_workers(targets.pool, [*started], min(started.values()))
    fix = "let REDIS_URL of each installation end with a database of its own, such as /1"
    return [
        fault("worker", f"{name} uses this Redis with another Postgres", fix)
        for name, since in sorted(started.items())
        if name not in known and alive[name].seen_at - since > MIN_AGE_OF_STRANGER
    ]


async def _worker_schemas(
    targets: DiagnosticTargets, alive: Mapping[str, WorkerFacts]
) -> list[Finding]:
    """Compare the schema that each worker was made for with the database's."""
    if targets.pool is None:
        return []
    has = await schema.database_revision(targets.pool)
    fix = "deploy the same code everywhere, migrate, and restart that worker"
    return [
        fault("worker", f"{name} needs schema {facts.schema}, and the database has {has}", fix)
        for name, facts in sorted(alive.items())
        if facts.schema not in {None, has}
    ]


def _zone_data(versions: set[str]) -> list[Finding]:
    """Compare the zone data of the workers with this process's."""
    message = f"IANA {zone_data.VERSION}, from the tzdata wheel"
    if versions <= {zone_data.VERSION}:
        return [ok("zone data", message)]
    used = ", ".join(sorted(versions))
    return [
        warning(
            "zone data",
            f"{message}; the workers have {used}, and the newest decides",
            "deploy the same tzdata to every process",
        )
    ]


async def _queue(targets: DiagnosticTargets) -> list[Finding]:
    length = await targets.redis.zcard(default_queue_name)
    if targets.pool is None:
        return [ok("queue", counted(length, "job"))]
    now = (await diagnostics.server_facts(targets.pool))["now"]
    waiting = await backlog.open_runs(targets.pool, now)
    oldest: datetime | None = waiting["oldest"]
    queued = counted(waiting["queued"], "run")
    message = f"{counted(length, 'job')}; {queued} queued, {waiting['running']} running"
    if oldest is not None and now - oldest > MAX_QUEUE_WAIT:
        fix = "start another worker, raise MAX_JOBS, or see `rollcall runs --status running`"
        return [
            fault("queue", f"{message}; the oldest has waited since {oldest:%H:%M:%S} UTC", fix)
        ]
    return [ok("queue", message)]


async def _postgres(targets: DiagnosticTargets) -> list[Finding]:
    facts = await diagnostics.server_facts(_pool(targets))
    return [
        *server(facts),
        *connections(facts),
        clock("this machine's clock", datetime.now(UTC) - facts["now"]),
        *await _redis_clock(targets, facts),
    ]


def server(facts: Mapping[str, Any]) -> list[Finding]:
    """Judge the version and the role of the Postgres server."""
    size = facts["database_bytes"] / 1e6
    found = [ok("postgres", f"{facts['version_name']}, {size:,.0f} MB")]
    if facts["version"] < MIN_POSTGRES:
        found = [fault("postgres", f"{facts['version_name']} is too old", "upgrade to 15 or newer")]
    if facts["standby"]:
        found.append(fault("postgres role", "a standby, which is read-only", "use the primary"))
    elif facts["read_only"]:
        fix = "find who has set default_transaction_read_only, perhaps because its disk is full"
        found.append(fault("postgres role", "takes no writes: transactions are read-only", fix))
    if facts["bypasses"]:
        fix = "use a role without SUPERUSER and BYPASSRLS"
        message = "this role bypasses row-level security: organisations are not isolated"
        found.append(warning("postgres role", message, fix))
    return found


def connections(facts: Mapping[str, Any]) -> list[Finding]:
    """Judge how many connections the Postgres server has."""
    used, allowed = facts["connections"], facts["connections_allowed"]
    message = f"{used} of {allowed} in use"
    found = [ok("connections", message)]
    if used > allowed * MAX_CONNECTION_SHARE:
        found = [
            fault("connections", message, "lower DATABASE_POOL_SIZE, or use a connection pooler")
        ]
    if facts["idle_in_transaction"]:
        message = f"{facts['idle_in_transaction']} idle in a transaction for more than a minute"
        found.append(warning("transactions", message, "find their owner in pg_stat_activity"))
    return found


async def _redis_clock(targets: DiagnosticTargets, facts: Mapping[str, Any]) -> list[Finding]:
    try:
        redis_now = await server_time(targets.redis)
    except (RedisError, OSError):  # reported by its own check
        return []
    return [clock("Redis' clock", redis_now - facts["now"])]


def clock(whose: str, ahead: timedelta) -> Finding:
    """Judge how far a clock is ahead of the database's."""
    seconds = ahead.total_seconds()
    side = "ahead of" if seconds >= 0 else "behind"
    message = f"{whose} is {abs(seconds):.3f} s {side} the database's"
    if abs(ahead) > MAX_CLOCK_SKEW:
        return warning(
            "clock",
            f"{message}; what is due is decided by the database's, and waits by Redis'",
            "let NTP set the clock of that machine",
        )
    return ok("clock", message)


async def _schema(targets: DiagnosticTargets) -> list[Finding]:
    try:
        await schema.check(_pool(targets))
    except WrongSchema as error:
        message, _, fix = str(error).partition(": ")
        migrates = Repair.MIGRATE if "migrate" in fix else None
        return [fault("schema", message, fix.rstrip("."), migrates)]
    return [ok("schema", f"{schema.required_revision()}, the version of this code")]


async def _schedules(targets: DiagnosticTargets) -> list[Finding]:
    pool = _pool(targets)
    now = (await diagnostics.server_facts(pool))["now"]
    unreadable = await _unreadable(pool)
    # No worker decides the ticks of these, which have a finding of their own.
    late, since = await backlog.scheduling_lag(pool, now, list(unreadable))
    stuck = await diagnostics.count_stuck_runs(pool)
    found = [ok("frontier", "every schedule is decided up to now")]
    if late and since is not None:
        message = f"{counted(late, 'schedule')} undecided since {since:%Y-%m-%d %H:%M:%S} UTC"
        found = [
            fault(
                "frontier",
                message,
                "start a worker that declares them; due ticks are decided at once",
            )
        ]
    if stuck:
        message = f"{counted(stuck, 'run')} without a worker, not claimed again"
        found.append(fault("runs", message, "start a worker that has their job"))
    return [*found, *unreadable.values(), *await _gaps(pool), *await _undeclared(targets)]


async def _unreadable(pool: Pool) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for state in await schedule_rows.all_of(pool):
        try:
            Schedule.from_spec(state.spec, name=state.key)
            Policies.from_spec(state.policies)
        except BadSchedule as error:
            fix = "edit it: in the settings or the recipe, or through the API for a collection"
            message = f"{state.key} cannot be read, and its ticks are held: {error}"
            found[state.key] = fault("schedule", message, fix)
    return found


async def _gaps(pool: Pool) -> list[Finding]:
    fix = "no run requests it; news of the next outage is requested if ASKNEWS_HISTORICAL=true"
    return [warning("gap", message, fix) for message in await diagnostics.recent_gaps(pool)]


async def _undeclared(targets: DiagnosticTargets) -> list[Finding]:
    gone = await diagnostics.undeclared_schedules(_pool(targets), targets.declared)
    fix = "if no old worker that declares it is left: rollcall retire"
    if targets.job_faults or targets.recipe_faults:
        fix = "correct what cannot be loaded, see above; only if it was removed: rollcall retire"
    return [warning("schedule", f"{key} is no longer declared", f"{fix} {key}") for key in gone]


def disk(total: int, free: int) -> Finding:
    """Judge how much of the disk with the data directory is free."""
    message = f"{free / 1e9:.1f} GB free"
    if free < total * MIN_FREE_DISK:
        fix = "free some space, or shorten retention: rollcall prune --dry-run"
        return warning("disk", message, fix)
    return ok("disk", message)


def _pool(targets: DiagnosticTargets) -> Pool:
    if targets.pool is None:
        raise ConnectionError("Postgres is unreachable")
    return targets.pool
