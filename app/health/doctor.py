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

from app.core.config import Config
from app.core.errors import WrongSchema
from app.health import keys
from app.store import schema
from app.store.db import Pool
from app.store.reports import diagnostics
from app.store.runs import listing

OLDEST_POSTGRES = 150_000
SKEW = timedelta(seconds=2)
LONG_WAIT = timedelta(minutes=5)
LEAST_DISK = 0.10  # share of the disk that should be free
CROWDED = 0.85  # share of the connections in use


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `mend`: what to do, if the level is not OK."""

    what: str
    level: Level
    said: str
    mend: str | None = None


def well(what: str, message: str) -> Finding:
    return Finding(what, Level.OK, message)


def odd(what: str, message: str, fix: str) -> Finding:
    return Finding(what, Level.WARNING, message, fix)


def bad(what: str, message: str, fix: str) -> Finding:
    return Finding(what, Level.FAULT, message, fix)


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks examine. `off`: disabled jobs, with the reason.

    `declared`: the keys of the schedules that the code and the recipe directory declare.
    """

    config: Config
    pool: Pool | None
    redis: ArqRedis
    off: Sequence[tuple[str, str]]
    declared: Collection[str]


Check = Callable[[Patient], Awaitable[Sequence[Finding]]]


async def examined(targets: Patient) -> list[Finding]:
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
            found.append(bad(what, message, _CHECK_FAILED[what]))
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
    found = [well("settings", "all are valid")]
    if private:
        message = f"a private {' and '.join(private)} under {config.data_dir}"
        found.append(
            odd("servers", message, "fine for one machine; set DATABASE_URL and REDIS_URL")
        )
    if not config.contact:
        fix = "set CONTACT to an address where a site can reach you"
        found.append(odd("contact", "requests to sites carry no contact address", fix))
    if config.clock_skew_seconds:
        message = f"CLOCK_SKEW_SECONDS is {config.clock_skew_seconds:g}"
        found.append(bad("clock", message, "it is for tests only: remove it"))
    return found


def _credentials(targets: Patient) -> list[Finding]:
    return [
        odd("credentials", f"{job} is disabled: {why}", "set it, if the job should run")
        for job, why in targets.off
    ]


async def _redis(targets: Patient) -> list[Finding]:
    started = time.monotonic()
    info = await _info(targets.redis)
    took = (time.monotonic() - started) * 1000
    version = info.get("valkey_version") or info.get("redis_version")
    found = [well("redis", f"{version}, responds in {took:.1f} ms")]
    policy = info.get("maxmemory_policy", "unknown")
    if int(info.get("maxmemory") or 0) and policy != "noeviction":
        message = f"evicts keys when memory is short (maxmemory-policy {policy})"
        found.append(bad("redis memory", message, "set maxmemory-policy to noeviction"))
    elif policy != "noeviction":
        message = f"maxmemory-policy is {policy}; no limit is set, so nothing is evicted yet"
        found.append(odd("redis memory", message, "set maxmemory-policy to noeviction"))
    else:
        found.append(well("redis memory", f"noeviction, {info.get('used_memory_human')} used"))
    return found


async def _info(redis: ArqRedis) -> dict[str, Any]:
    info: Any = await redis.info()  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    return cast("dict[str, Any]", info)


async def _workers(targets: Patient) -> list[Finding]:
    alive = await keys.read_workers(targets.redis)
    if not alive:
        return [bad("workers", "none is alive", "start one: arq app.workers.Settings")]
    running = sum(facts.running or 0 for facts in alive.values())
    return [well("workers", f"{len(alive)} alive, {running} runs in progress")]


async def _queue(targets: Patient) -> list[Finding]:
    length = await targets.redis.zcard(default_queue_name)
    if targets.pool is None:
        return [well("queue", f"{length} jobs")]
    now = (await diagnostics.facts(targets.pool))["now"]
    waiting = await listing.open_runs(targets.pool, now)
    oldest: datetime | None = waiting["oldest"]
    message = f"{length} jobs; {waiting['queued']} runs queued, {waiting['running']} running"
    if oldest is not None and now - oldest > LONG_WAIT:
        fix = "start another worker, raise MAX_JOBS, or see `python -m app runs --status running`"
        return [bad("queue", f"{message}; the oldest has waited since {oldest:%H:%M:%S} UTC", fix)]
    return [well("queue", message)]


async def _postgres(targets: Patient) -> list[Finding]:
    facts = await diagnostics.facts(_pool(targets))
    size = facts["database_bytes"] / 1e6
    found = [well("postgres", f"{facts['version_name']}, {size:,.0f} MB")]
    if facts["version"] < OLDEST_POSTGRES:
        found = [bad("postgres", f"{facts['version_name']} is too old", "upgrade to 15 or newer")]
    if facts["standby"]:
        found.append(bad("postgres role", "a standby, which is read-only", "use the primary"))
    if facts["bypasses"]:
        fix = "use a role without SUPERUSER and BYPASSRLS"
        message = "this role bypasses row-level security: organisations are not isolated"
        found.append(odd("postgres role", message, fix))
    return [*found, *_connections(facts), *_clock(facts["now"])]


def _connections(facts: dict[str, Any]) -> list[Finding]:
    used, allowed = facts["connections"], facts["connections_allowed"]
    message = f"{used} of {allowed} in use"
    found = [well("connections", message)]
    if used > allowed * CROWDED:
        found = [
            bad("connections", message, "lower DATABASE_POOL_SIZE, or use a connection pooler")
        ]
    if facts["idle_in_transaction"]:
        message = f"{facts['idle_in_transaction']} idle in a transaction for more than a minute"
        found.append(odd("transactions", message, "find their owner in pg_stat_activity"))
    return found


def _clock(database_now: datetime) -> list[Finding]:
    skew = datetime.now(UTC) - database_now
    message = f"this machine's clock is {abs(skew.total_seconds()):.3f} s off the database's"
    if abs(skew) > SKEW:
        return [
            odd(
                "clock",
                f"{message}; the database's clock is used",
                "let NTP set the machine's clock",
            )
        ]
    return [well("clock", message)]


async def _schema(targets: Patient) -> list[Finding]:
    try:
        await schema.check(_pool(targets))
    except WrongSchema as error:
        message, _, fix = str(error).partition(": ")
        return [bad("schema", message, fix.rstrip("."))]
    return [well("schema", f"{schema.wanted()}, the version of this code")]


async def _schedules(targets: Patient) -> list[Finding]:
    pool = _pool(targets)
    now = (await diagnostics.facts(pool))["now"]
    late, since = await listing.lag(pool, now)
    stuck = await diagnostics.stuck(pool)
    found = [well("frontier", "every schedule is decided up to now")]
    if late and since is not None:
        message = f"{late} schedules have been undecided since {since:%Y-%m-%d %H:%M:%S} UTC"
        found = [bad("frontier", message, "start a worker; due ticks are decided at once")]
    if stuck:
        message = f"{stuck} runs have lost their worker and were not claimed again"
        found.append(bad("runs", message, "start a worker that has their job"))
    return [*found, *await _undeclared(targets)]


async def _undeclared(targets: Patient) -> list[Finding]:
    gone = await diagnostics.undeclared(_pool(targets), targets.declared)
    fix = "if no old worker that declares it is left: python -m app retire"
    return [odd("schedule", f"{key} is no longer declared", f"{fix} {key}") for key in gone]


def _disk(config: Config) -> list[Finding]:
    folder = config.data_dir if config.data_dir.exists() else Path()
    usage = shutil.disk_usage(folder)
    message = f"{usage.free / 1e9:.1f} GB free"
    if usage.free < usage.total * LEAST_DISK:
        return [
            odd(
                "disk",
                message,
                "free some space, or shorten retention: python -m app prune --dry-run",
            )
        ]
    return [well("disk", message)]


def _pool(targets: Patient) -> Pool:
    if targets.pool is None:
        raise ConnectionError("Postgres is unreachable")
    return targets.pool
