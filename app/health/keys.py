"""Health in Redis: one hash per job, one per worker, and an index of each. Every key has a TTL.

A value that cannot be read is not known (None): a foreign hand in Redis must not blind the reader.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.health.facts import JobFacts, WorkerFacts
from app.words import RunStatus

JOBS = "rollcall:health:jobs"
WORKERS = "rollcall:health:workers"
JOB_TTL = 30 * 24 * 3600  # seconds
BATCH = 10  # jobs to a round trip: a thousand at once would hold up every run meanwhile
INDEX_GRACE = 600  # seconds by which workers' clocks may differ before one strikes off another

LONG_AGO = datetime.fromtimestamp(0, UTC)  # a beat whose instant cannot be read
Command = tuple[str | float, ...]


def job_key(key: str) -> str:
    """The name of the job's hash."""
    return f"rollcall:health:job:{key}"


def worker_key(worker_id: str) -> str:
    """The name of the worker's hash."""
    return f"rollcall:health:worker:{worker_id}"


async def write_job(redis: Redis, key: str, fields: JobFacts) -> None:
    """Write all that is known of the job, and forget what is None. One round trip, all or nothing.

    `redis` may or may not decode its answers; arq's does not.
    """
    await write_jobs(redis, [(key, fields)])


async def write_jobs(redis: Redis, jobs: Iterable[tuple[str, JobFacts]]) -> None:
    """Write all that is known of these jobs, as `write_job` does, a few to a round trip."""
    waiting = iter(jobs)
    while batch := list(islice(waiting, BATCH)):
        puts = [_put(job_key(key), _job_values(fields)) for key, fields in batch]
        await _tell(
            redis,
            *chain.from_iterable(puts),
            *(("EXPIRE", job_key(key), JOB_TTL) for key, _ in batch),
            ("SADD", JOBS, *(key for key, _ in batch)),
            ("EXPIRE", JOBS, JOB_TTL),
        )


async def read_jobs(redis: Redis) -> dict[str, JobFacts]:
    """Every known job by its key, sorted. Two round trips.

    A job that is in the index but has no hash any more is known by its name alone.
    """
    keys = await _members(redis, ("SMEMBERS", JOBS))
    hashes = await _hashes(redis, [job_key(key) for key in keys])
    return {key: _job_facts(key, values) for key, values in zip(keys, hashes, strict=True)}


async def forget_job(redis: Redis, key: str) -> None:
    """Forget a job that is no longer declared."""
    await _tell(redis, ("DEL", job_key(key)), ("SREM", JOBS, key))


async def write_worker(redis: Redis, worker_id: str, ttl: float, facts: WorkerFacts) -> None:
    """Beat: the worker is taken for alive for `ttl` seconds."""
    seen = facts.seen_at.timestamp()
    await _tell(
        redis,
        *_put(worker_key(worker_id), _worker_values(facts)),
        ("PEXPIRE", worker_key(worker_id), math.ceil(ttl * 1000)),
        ("ZREMRANGEBYSCORE", WORKERS, "-inf", seen - INDEX_GRACE),
        ("ZADD", WORKERS, seen + ttl, worker_id),
        ("EXPIRE", WORKERS, JOB_TTL),
    )


async def read_workers(redis: Redis) -> dict[str, WorkerFacts]:
    """The workers that beat, by id. Their own keys' TTL decides, so no two clocks are compared."""
    ids = await _members(redis, ("ZRANGE", WORKERS, 0, -1))
    hashes = await _hashes(redis, [worker_key(worker_id) for worker_id in ids])
    pairs = zip(ids, hashes, strict=True)
    return {worker_id: _worker_facts(values) for worker_id, values in pairs if values}


async def forget_worker(redis: Redis, worker_id: str) -> None:
    """Strike off a worker that ended as it should."""
    await _tell(redis, ("DEL", worker_key(worker_id)), ("ZREM", WORKERS, worker_id))


async def _tell(redis: Redis, *commands: Command) -> None:
    for answer in await _send(redis, commands, atomic=True):
        if isinstance(answer, Exception):
            raise answer


async def _members(redis: Redis, command: Command) -> list[str]:
    (answer,) = await _send(redis, (command,), atomic=False)
    if isinstance(answer, Exception):
        raise answer
    return sorted(_text(member) for member in cast("Iterable[bytes | str]", answer))


async def _hashes(redis: Redis, names: Iterable[str]) -> list[dict[str, str]]:
    commands = [("HGETALL", name) for name in names]
    return [_hash(answer) for answer in await _send(redis, commands, atomic=False)]


async def _send(redis: Redis, commands: Sequence[Command], *, atomic: bool) -> list[object]:
    async with redis.pipeline(transaction=atomic) as pipe:
        for command in commands:
            pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
        return await pipe.execute(raise_on_error=False)


def _hash(answer: object) -> dict[str, str]:
    if isinstance(answer, ResponseError):
        return {}  # the name holds something that is no hash
    if isinstance(answer, Exception):
        raise answer
    values = cast("Mapping[bytes | str, bytes | str]", answer)
    return {_text(name): _text(value) for name, value in values.items()}


def _job_values(facts: JobFacts) -> dict[str, str | None]:
    return {
        "job": facts.job,
        "last_run": _iso(facts.last_run),
        "last_success": _iso(facts.last_success),
        "last_status": facts.last_status,
        "next_run": _iso(facts.next_run),
        "interval_seconds": _shown(facts.interval_seconds),
        "enabled": "1" if facts.enabled else "0",
        "paused_at": _iso(facts.paused_at),
        "paused_by": facts.paused_by,
        "paused_note": facts.paused_note,
        "running_since": _iso(facts.running_since),
        "last_error": facts.last_error,
        "consecutive_failures": _shown(facts.consecutive_failures),
        "registered_at": _iso(facts.registered_at),
    }


def _job_facts(key: str, values: Mapping[str, str]) -> JobFacts:
    return JobFacts(
        job=values.get("job") or key,
        last_run=_instant(values.get("last_run")),
        last_success=_instant(values.get("last_success")),
        last_status=_status(values.get("last_status")),
        next_run=_instant(values.get("next_run")),
        interval_seconds=_seconds(values.get("interval_seconds")),
        enabled=values.get("enabled") != "0",
        paused_at=_instant(values.get("paused_at")),
        paused_by=values.get("paused_by"),
        paused_note=values.get("paused_note"),
        running_since=_instant(values.get("running_since")),
        last_error=values.get("last_error"),
        consecutive_failures=_count(values.get("consecutive_failures")),
        registered_at=_instant(values.get("registered_at")),
    )


def _worker_values(facts: WorkerFacts) -> dict[str, str | None]:
    return {
        "seen_at": _iso(facts.seen_at),
        "started_at": _iso(facts.started_at),
        "host": facts.host,
        "running": _shown(facts.running),
    }


def _worker_facts(values: Mapping[str, str]) -> WorkerFacts:
    return WorkerFacts(
        seen_at=_instant(values.get("seen_at")) or LONG_AGO,
        started_at=_instant(values.get("started_at")),
        host=values.get("host"),
        running=_count(values.get("running")),
    )


def _put(name: str, values: Mapping[str, str | None]) -> list[Command]:
    known = [part for pair in values.items() if pair[1] is not None for part in pair]
    unknown = [field for field, value in values.items() if value is None]
    commands: list[Command] = [("HSET", name, *(str(part) for part in known))]
    return [*commands, ("HDEL", name, *unknown)] if unknown else commands


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


def _shown(number: float | None) -> str | None:
    return None if number is None else repr(number)


def _instant(text: str | None) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text or "")
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _status(text: str | None) -> RunStatus | None:
    try:
        return RunStatus(text or "")
    except ValueError:
        return None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _count(text: str | None) -> int | None:
    try:
        return max(0, int(text or ""))
    except ValueError:
        return None
