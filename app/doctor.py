"""The doctor: looks at everything a worker needs, and says of each fault what mends it."""

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

from app.config import Config
from app.errors import WrongSchema
from app.health import keys
from app.store import checkup, listing, schema
from app.store.db import Pool

OLDEST_POSTGRES = 150_000
SKEW = timedelta(seconds=2)
LONG_WAIT = timedelta(minutes=5)
LEAST_DISK = 0.10  # free share
CROWDED = 0.85  # share of the connections that are taken


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend`: what to do, if there is something."""

    what: str
    level: Level
    said: str
    mend: str | None = None


def well(what: str, said: str) -> Finding:
    return Finding(what, Level.OK, said)


def odd(what: str, said: str, mend: str) -> Finding:
    return Finding(what, Level.WARNING, said, mend)


def bad(what: str, said: str, mend: str) -> Finding:
    return Finding(what, Level.FAULT, said, mend)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at. `off`: the jobs that the settings switch off, and why.

    `declared`: the keys of the schedules that the code and the folder of recipes declare.
    """

    config: Config
    pool: Pool | None
    redis: ArqRedis
    off: Sequence[tuple[str, str]]
    declared: Collection[str]


Look = Callable[[Patient], Awaitable[Sequence[Finding]]]


async def examined(patient: Patient) -> list[Finding]:
    """Everything that can be looked at; what cannot be is a finding itself. Never raises."""
    found: list[Finding] = [*_settings(patient.config), *_credentials(patient)]
    looks: tuple[tuple[str, Look], ...] = (
        ("redis", _redis), ("workers", _workers), ("queue", _queue),
    )  # fmt: skip
    if patient.pool is not None:
        looks = (*looks, ("postgres", _postgres), ("schema", _schema), ("schedules", _schedules))
    for what, look in looks:
        try:
            found += await look(patient)
        except Exception as error:  # noqa: BLE001 - what cannot be looked at is a finding
            told = f"cannot be looked at: {type(error).__name__}: {error}"
            found.append(bad(what, told, _REACH[what]))
    return [*found, *_disk(patient.config)]


_REACH = {
    "redis": "check REDIS_URL, and that the server runs and lets this machine in",
    "workers": "mend Redis first",
    "queue": "mend Redis and Postgres first",
    "postgres": "check DATABASE_URL, and that the server runs and lets this machine in",
    "schema": "run `python -m app migrate`",
    "schedules": "run `python -m app migrate`",
}


def _settings(config: Config) -> list[Finding]:
    own = [
        n for n, url in (("Postgres", config.database_url), ("Redis", config.redis_url)) if not url
    ]
    found = [well("settings", "all can be used")]
    if own:
        told = f"a private {' and '.join(own)} under {config.data_dir}"
        found.append(odd("servers", told, "fine for one machine; set DATABASE_URL and REDIS_URL"))
    if not config.contact:
        mend = "set CONTACT to an address where a site can reach you"
        found.append(odd("contact", "sites are not told whom to write to", mend))
    if config.clock_skew_seconds:
        told = f"CLOCK_SKEW_SECONDS is {config.clock_skew_seconds:g}"
        found.append(bad("clock", told, "it is for drills only: take it out"))
    return found


def _credentials(patient: Patient) -> list[Finding]:
    return [
        odd("credentials", f"{job} is switched off: {why}", "set it, if the job is wanted")
        for job, why in patient.off
    ]


async def _redis(patient: Patient) -> list[Finding]:
    started = time.monotonic()
    info = await _info(patient.redis)
    took = (time.monotonic() - started) * 1000
    version = info.get("valkey_version") or info.get("redis_version")
    found = [well("redis", f"{version}, answers in {took:.1f} ms")]
    policy = info.get("maxmemory_policy", "unknown")
    if int(info.get("maxmemory") or 0) and policy != "noeviction":
        told = f"evicts keys when memory is short (maxmemory-policy {policy})"
        found.append(bad("redis memory", told, "set maxmemory-policy to noeviction"))
    elif policy != "noeviction":
        told = f"maxmemory-policy is {policy}; no limit is set, so nothing is evicted yet"
        found.append(odd("redis memory", told, "set maxmemory-policy to noeviction"))
    else:
        found.append(well("redis memory", f"noeviction, {info.get('used_memory_human')} used"))
    return found


async def _info(redis: ArqRedis) -> dict[str, Any]:
    told: Any = await redis.info()  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    return cast("dict[str, Any]", told)


async def _workers(patient: Patient) -> list[Finding]:
    alive = await keys.read_workers(patient.redis)
    if not alive:
        return [bad("workers", "none is alive", "start one: arq app.workers.Settings")]
    running = sum(facts.running or 0 for facts in alive.values())
    return [well("workers", f"{len(alive)} alive, {running} runs under way")]


async def _queue(patient: Patient) -> list[Finding]:
    length = await patient.redis.zcard(default_queue_name)
    if patient.pool is None:
        return [well("queue", f"{length} jobs")]
    now = (await checkup.facts(patient.pool))["now"]
    waiting = await listing.open_runs(patient.pool, now)
    oldest: datetime | None = waiting["oldest"]
    told = f"{length} jobs; {waiting['queued']} runs queued, {waiting['running']} running"
    if oldest is not None and now - oldest > LONG_WAIT:
        mend = "start another worker, raise MAX_JOBS, or see `python -m app runs --status running`"
        return [bad("queue", f"{told}; the oldest waits since {oldest:%H:%M:%S} UTC", mend)]
    return [well("queue", told)]


async def _postgres(patient: Patient) -> list[Finding]:
    facts = await checkup.facts(_pool(patient))
    size = facts["database_bytes"] / 1e6
    found = [well("postgres", f"{facts['version_name']}, {size:,.0f} MB")]
    if facts["version"] < OLDEST_POSTGRES:
        found = [bad("postgres", f"{facts['version_name']} is too old", "upgrade to 15 or newer")]
    if facts["standby"]:
        found.append(
            bad("postgres role", "a standby, which cannot be written to", "use the primary")
        )
    if facts["bypasses"]:
        mend = "use a role without SUPERUSER and BYPASSRLS"
        told = "this role bypasses row-level security: organisations are not kept apart"
        found.append(odd("postgres role", told, mend))
    return [*found, *_connections(facts), *_clock(facts["now"])]


def _connections(facts: dict[str, Any]) -> list[Finding]:
    used, allowed = facts["connections"], facts["connections_allowed"]
    told = f"{used} of {allowed} taken"
    found = [well("connections", told)]
    if used > allowed * CROWDED:
        found = [bad("connections", told, "lower DATABASE_POOL_SIZE, or put a pooler in front")]
    if facts["idle_in_transaction"]:
        told = f"{facts['idle_in_transaction']} idle in a transaction for more than a minute"
        found.append(odd("transactions", told, "find whose they are in pg_stat_activity"))
    return found


def _clock(there: datetime) -> list[Finding]:
    skew = datetime.now(UTC) - there
    told = f"this machine's clock is {abs(skew.total_seconds()):.3f} s off the database's"
    if abs(skew) > SKEW:
        return [odd("clock", f"{told}; the database's is used", "let NTP set the machine's clock")]
    return [well("clock", told)]


async def _schema(patient: Patient) -> list[Finding]:
    try:
        await schema.check(_pool(patient))
    except WrongSchema as error:
        told, _, mend = str(error).partition(": ")
        return [bad("schema", told, mend.rstrip("."))]
    return [well("schema", f"{schema.wanted()}, as this code wants it")]


async def _schedules(patient: Patient) -> list[Finding]:
    pool = _pool(patient)
    now = (await checkup.facts(pool))["now"]
    late, since = await listing.lag(pool, now)
    stuck = await checkup.stuck(pool)
    found = [well("frontier", "every schedule is decided up to now")]
    if late and since is not None:
        told = f"{late} schedules are undecided since {since:%Y-%m-%d %H:%M:%S} UTC"
        found = [bad("frontier", told, "start a worker; what was due is decided at once")]
    if stuck:
        told = f"{stuck} runs have lost their worker and were not taken up"
        found.append(bad("runs", told, "start a worker that knows their job"))
    return [*found, *await _undeclared(patient)]


async def _undeclared(patient: Patient) -> list[Finding]:
    gone = await checkup.undeclared(_pool(patient), patient.declared)
    mend = "if no old worker is left that declares it: python -m app retire"
    return [odd("schedule", f"{key} is declared no more", f"{mend} {key}") for key in gone]


def _disk(config: Config) -> list[Finding]:
    folder = config.data_dir if config.data_dir.exists() else Path()
    usage = shutil.disk_usage(folder)
    told = f"{usage.free / 1e9:.1f} GB free where this runs"
    if usage.free < usage.total * LEAST_DISK:
        return [odd("disk", told, "make room, or forget sooner: python -m app prune --dry-run")]
    return [well("disk", told)]


def _pool(patient: Patient) -> Pool:
    if patient.pool is None:
        raise ConnectionError("Postgres is away")
    return patient.pool
