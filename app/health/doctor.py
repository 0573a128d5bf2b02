"""Diagnostic checks of everything that a worker needs, each with a fix."""

import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from arq.connections import ArqRedis
from arq.constants import default_queue_name
from redis.exceptions import RedisError

from app.core import zone_data
from app.core.config import Config
from app.core.errors import WrongSchema
from app.health import keys
from app.health.keys import server_time
from app.store import schema
from app.store.db import Pool
from app.store.reports import diagnostics
from app.store.runs import backlog

MIN_POSTGRES = 150_000
MAX_CLOCK_SKEW = timedelta(seconds=2)
MAX_QUEUE_WAIT = timedelta(minutes=5)
MIN_FREE_DISK = 0.10  # share of the disk that should be free
MAX_CONNECTION_SHARE = 0.85  # share of the connections in use


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix`: what to do, if the level is not OK."""

    subject: str
    level: Level
    message: str
    fix: str | None = None


def ok(what: str, message: str) -> Finding:
    return Finding(what, Level.OK, message)


def warning(what: str, message: str, fix: str) -> Finding:
    return Finding(what, Level.WARNING, message, fix)


def fault(what: str, message: str, fix: str) -> Finding:
    return Finding(what, Level.FAULT, message, fix)


def faulty_job(message: str) -> Finding:
    """The finding for a job that cannot be loaded; `message` says where, why and what to do."""
    return fault("job", message, "correct the file, then restart the workers")


@dataclass(frozen=True, slots=True)
class DiagnosticTargets:
    """What the checks examine. `disabled`: disabled jobs, with the reason.

    `declared`: the keys of the schedules that the code and the recipe directory declare.
    """

    config: Config
    pool: Pool | None
    redis: ArqRedis
    disabled: Sequence[tuple[str, str]]
    declared: Collection[str]


Check = Callable[[DiagnosticTargets], Awaitable[Sequence[Finding]]]


async def run_checks(targets: DiagnosticTargets) -> list[Finding]:
    """Run every check. A check that fails becomes a finding. Never raises."""
    found: list[Finding] = [*_settings(targets.config), *_credentials(targets)]
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
    return [*found, *_disk(targets.config)]


_CHECK_FAILED = {
    "redis": "check REDIS_URL, and that the server runs and accepts connections from here",
    "workers": "fix Redis first",
    "queue": "fix Redis and Postgres first",
    "postgres": "check DATABASE_URL, and that the server runs and accepts connections from here",
    "schema": "run `python -m app migrate`",
    "schedules": "run `python -m app migrate`",
}


def _settings(config: Config) -> list[Finding]:
    private = [
        n for n, url in (("Postgres", config.database_url), ("Redis", config.redis_url)) if not url
    ]
    found = [ok("settings", "all are valid")]
    if private:
        message = f"a private {' and '.join(private)} under {config.data_dir}"
        found.append(
            warning("servers", message, "fine for one machine; set DATABASE_URL and REDIS_URL")
        )
    if not config.contact:
        fix = "set CONTACT to an address where a site can reach you"
        found.append(warning("contact", "requests to sites carry no contact address", fix))
    if config.clock_skew_seconds:
        message = f"CLOCK_SKEW_SECONDS is {config.clock_skew_seconds:g}"
        found.append(fault("clock", message, "it is for tests only: remove it"))
    return found


def _credentials(targets: DiagnosticTargets) -> list[Finding]:
    return [
        warning("credentials", f"{job} is disabled: {why}", "set it, if the job should run")
        for job, why in targets.disabled
    ]


async def _redis(targets: DiagnosticTargets) -> list[Finding]:
    started = time.monotonic()
    info = await _info(targets.redis)
    took = (time.monotonic() - started) * 1000
    version = info.get("valkey_version") or info.get("redis_version")
    found = [ok("redis", f"{version}, responds in {took:.1f} ms")]
    policy = info.get("maxmemory_policy", "unknown")
    if int(info.get("maxmemory") or 0) and policy != "noeviction":
        message = f"evicts keys when memory is short (maxmemory-policy {policy})"
        found.append(fault("redis memory", message, "set maxmemory-policy to noeviction"))
    elif policy != "noeviction":
        message = f"maxmemory-policy is {policy}; no limit is set, so nothing is evicted yet"
        found.append(warning("redis memory", message, "set maxmemory-policy to noeviction"))
    else:
        found.append(ok("redis memory", f"noeviction, {info.get('used_memory_human')} used"))
    return found


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
        ok("workers", f"{len(alive)} alive, {running} runs in progress"),
        *_zone_data(versions),
        *(
            _clock(f"worker {worker}'s clock", timedelta(seconds=facts.clock_error))
            for worker, facts in alive.items()
            if facts.clock_error is not None
        ),
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
        return [ok("queue", f"{length} jobs")]
    now = (await diagnostics.server_facts(targets.pool))["now"]
    waiting = await backlog.open_runs(targets.pool, now)
    oldest: datetime | None = waiting["oldest"]
    message = f"{length} jobs; {waiting['queued']} runs queued, {waiting['running']} running"
    if oldest is not None and now - oldest > MAX_QUEUE_WAIT:
        fix = "start another worker, raise MAX_JOBS, or see `python -m app runs --status running`"
        return [
            fault("queue", f"{message}; the oldest has waited since {oldest:%H:%M:%S} UTC", fix)
        ]
    return [ok("queue", message)]


async def _postgres(targets: DiagnosticTargets) -> list[Finding]:
    facts = await diagnostics.server_facts(_pool(targets))
    size = facts["database_bytes"] / 1e6
    found = [ok("postgres", f"{facts['version_name']}, {size:,.0f} MB")]
    if facts["version"] < MIN_POSTGRES:
        found = [fault("postgres", f"{facts['version_name']} is too old", "upgrade to 15 or newer")]
    if facts["standby"]:
        found.append(fault("postgres role", "a standby, which is read-only", "use the primary"))
    if facts["bypasses"]:
        fix = "use a role without SUPERUSER and BYPASSRLS"
        message = "this role bypasses row-level security: organisations are not isolated"
        found.append(warning("postgres role", message, fix))
    return [
        *found,
        *_connections(facts),
        _clock("this machine's clock", datetime.now(UTC) - facts["now"]),
        *await _redis_clock(targets),
    ]


def _connections(facts: dict[str, Any]) -> list[Finding]:
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


async def _redis_clock(targets: DiagnosticTargets) -> list[Finding]:
    try:
        redis_now = await server_time(targets.redis)
    except (RedisError, OSError):  # reported by its own check
        return []
    facts = await diagnostics.server_facts(_pool(targets))
    return [_clock("Redis' clock", redis_now - facts["now"])]


def _clock(whose: str, ahead: timedelta) -> Finding:
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
        return [fault("schema", message, fix.rstrip("."))]
    return [ok("schema", f"{schema.required_revision()}, the version of this code")]


async def _schedules(targets: DiagnosticTargets) -> list[Finding]:
    pool = _pool(targets)
    now = (await diagnostics.server_facts(pool))["now"]
    late, since = await backlog.scheduling_lag(pool, now)
    stuck = await diagnostics.count_stuck_runs(pool)
    found = [ok("frontier", "every schedule is decided up to now")]
    if late and since is not None:
        message = f"{late} schedules have been undecided since {since:%Y-%m-%d %H:%M:%S} UTC"
        found = [fault("frontier", message, "start a worker; due ticks are decided at once")]
    if stuck:
        message = f"{stuck} runs have lost their worker and were not claimed again"
        found.append(fault("runs", message, "start a worker that has their job"))
    return [*found, *await _gaps(pool), *await _undeclared(targets)]


async def _gaps(pool: Pool) -> list[Finding]:
    fix = "request it by hand, or set ASKNEWS_HISTORICAL=true before the next outage"
    return [warning("gap", message, fix) for message in await diagnostics.recent_gaps(pool)]


async def _undeclared(targets: DiagnosticTargets) -> list[Finding]:
    gone = await diagnostics.undeclared_schedules(_pool(targets), targets.declared)
    fix = "if no old worker that declares it is left: python -m app retire"
    return [warning("schedule", f"{key} is no longer declared", f"{fix} {key}") for key in gone]


def _disk(config: Config) -> list[Finding]:
    folder = config.data_dir if config.data_dir.exists() else Path()
    usage = shutil.disk_usage(folder)
    message = f"{usage.free / 1e9:.1f} GB free"
    if usage.free < usage.total * MIN_FREE_DISK:
        return [
            warning(
                "disk",
                message,
                "free some space, or shorten retention: python -m app prune --dry-run",
            )
        ]
    return [ok("disk", message)]


def _pool(targets: DiagnosticTargets) -> Pool:
    if targets.pool is None:
        raise ConnectionError("Postgres is unreachable")
    return targets.pool
