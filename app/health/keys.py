"""Health facts in Redis: one JSON value per job and per worker, with an index of each.

Every key has a TTL. A field that cannot be decoded takes its default, so that neither a damaged
key nor a newer version's value breaks reading the others.
"""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, TypeVar, get_type_hints

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.core.tasks import Slices
from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts

JOBS = "rollcall:health:jobs"
WORKERS = "rollcall:health:workers"
COLLECTIONS = "rollcall:health:collections"
COLLECTIONS_TTL = 3600  # seconds
ACCOUNTING, ALERTING = "rollcall:health:house:accounting", "rollcall:health:house:alerting"
SYSTEM_TTL = 24 * 3600  # seconds
WRITE_PROBE = "rollcall:health:house:write_probe"
WRITE_PROBE_TTL = 10  # seconds
JOB_TTL = 30 * 24 * 3600  # seconds
BATCH = 10  # jobs per round trip, so that Redis is not blocked for long
MIN_YEAR, MAX_YEAR = 1970, 9000
INDEX_GRACE = 600  # seconds by which the clocks of workers may differ
UNKNOWN_HEARTBEAT = datetime.fromtimestamp(0, UTC)  # if the time cannot be decoded

RedisCommand = tuple[str | bytes | float, ...]
Facts = TypeVar("Facts", JobFacts, WorkerFacts, CollectionFacts, SystemFacts)

_encode = msgspec.json.Encoder().encode


def job_key(key: str) -> str:
    """The Redis key of the job's facts."""
    return f"rollcall:health:job:{key}"


def worker_key(worker_id: str) -> str:
    """The Redis key of the worker's facts."""
    return f"rollcall:health:worker:{worker_id}"


async def server_time(redis: Redis) -> datetime:
    """Return the time of Redis' clock."""
    seconds, micros = await _read(redis, "TIME")
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros))


async def write_jobs(redis: Redis, jobs: Iterable[tuple[str, JobFacts]]) -> None:
    """Write the facts of these jobs, BATCH jobs per transaction.

    `redis` may decode responses or not.
    """
    remaining = iter(jobs)
    while batch := list(islice(remaining, BATCH)):
        await _execute(
            redis,
            *(("SET", job_key(key), _encode(facts), "EX", JOB_TTL) for key, facts in batch),
            ("SADD", JOBS, *(key for key, _ in batch)),
            ("EXPIRE", JOBS, JOB_TTL),
        )


async def read_jobs(redis: Redis) -> dict[str, JobFacts]:
    """Every known job by its key, sorted. Two round trips.

    For a job in the index whose facts have expired, all facts but its name are unknown.
    """
    keys = await _members(redis, "SMEMBERS", JOBS)
    found = await _values(redis, [job_key(key) for key in keys])
    slices, jobs = Slices(rest=1), dict[str, JobFacts]()
    for key, value in zip(keys, found, strict=True):
        jobs[key] = _decode(value, JobFacts(job=key))
        await slices.checkpoint()
    return jobs


async def has_jobs(redis: Redis, jobs: Sequence[str]) -> bool:
    """Whether the facts of all these jobs are there. One round trip."""
    return not jobs or await _read(redis, "EXISTS", *(job_key(key) for key in jobs)) == len(jobs)


async def delete_job(redis: Redis, key: str) -> None:
    """Delete a job that is no longer declared."""
    await _execute(redis, ("DEL", job_key(key)), ("SREM", JOBS, key))


async def delete_other_jobs(redis: Redis, known: AbstractSet[str]) -> None:
    """Delete the jobs that are not `known`, as one that was retired while Redis was away."""
    for key in set(await _members(redis, "SMEMBERS", JOBS)) - known:
        await delete_job(redis, key)


async def write_worker(redis: Redis, worker_id: str, ttl: float, facts: WorkerFacts) -> bool:
    """Record a heartbeat: the worker counts as live for `ttl` seconds.

    Returns whether it was not known to Redis, as when that was emptied.
    """
    seen = facts.seen_at.timestamp()
    _, _, added, _ = await _execute(
        redis,
        ("SET", worker_key(worker_id), _encode(facts), "PX", math.ceil(ttl * 1000)),
        ("ZREMRANGEBYSCORE", WORKERS, "-inf", seen - INDEX_GRACE),
        ("ZADD", WORKERS, seen + ttl, worker_id),
        ("EXPIRE", WORKERS, JOB_TTL),
    )
    return bool(added)


async def read_workers(redis: Redis) -> dict[str, WorkerFacts]:
    """The live workers by id. The TTL of their keys decides, so no clocks are compared."""
    ids = await _members(redis, "ZRANGE", WORKERS, 0, -1)
    found = await _values(redis, [worker_key(worker_id) for worker_id in ids])
    return {
        worker_id: _decode(value, WorkerFacts(seen_at=UNKNOWN_HEARTBEAT))
        for worker_id, value in zip(ids, found, strict=True)
        if value
    }


async def write_refusal(redis: Redis) -> ResponseError | None:
    """Why Redis takes no writes, as with its memory used up or a full disk; None if it does.

    While it takes none, the keys of live workers expire as those of dead ones do.
    """
    try:
        await _read(redis, "SET", WRITE_PROBE, "1", "EX", WRITE_PROBE_TTL)
    except ResponseError as error:
        return error
    return None


async def declared_elsewhere(redis: Redis, worker_id: str) -> set[str]:
    """The schedules that live workers other than this one declare, and this one does not."""
    workers = await read_workers(redis)
    own = workers.pop(worker_id, None)
    others = {key for worker in workers.values() for key in worker.jobs or ()}
    return others - set(own.jobs or () if own else ())


async def delete_worker(redis: Redis, worker_id: str) -> None:
    """Delete a worker that shut down."""
    await _execute(redis, ("DEL", worker_key(worker_id)), ("ZREM", WORKERS, worker_id))


async def write_collections(redis: Redis, facts: CollectionFacts) -> None:
    """Write the numbers of collections by status."""
    await _execute(redis, ("SET", COLLECTIONS, _encode(facts), "EX", COLLECTIONS_TTL))


async def read_collections(redis: Redis) -> CollectionFacts | None:
    """The numbers of collections when last counted; None if never counted."""
    (value,) = await _values(redis, [COLLECTIONS])
    facts = _decode(value, CollectionFacts(as_of=UNKNOWN_HEARTBEAT))
    return None if facts.as_of == UNKNOWN_HEARTBEAT else facts


async def write_accounting(redis: Redis, facts: SystemFacts) -> None:
    """Write the number of ticks without an outcome."""
    await _execute(redis, ("SET", ACCOUNTING, _encode(facts), "EX", SYSTEM_TTL))


async def write_alerting(redis: Redis, facts: SystemFacts) -> None:
    """Write the state of alert delivery."""
    await _execute(redis, ("SET", ALERTING, _encode(facts), "EX", SYSTEM_TTL))


async def read_system(redis: Redis) -> SystemFacts:
    found = await _values(redis, [ACCOUNTING, ALERTING])
    counted, sent = (_decode(value, SystemFacts()) for value in found)
    return SystemFacts(
        counted.unaccounted,
        counted.checked_at,
        sent.pending,
        sent.failing_since,
        sent.notifier_error,
    )


def _decode(value: str | bytes | None, default: Facts) -> Facts:
    """Decode facts; a field that is missing or invalid is the default's."""
    kind = type(default)
    with contextlib.suppress(msgspec.DecodeError, UnicodeError):
        facts = msgspec.json.decode(value or b"", type=kind)
        if all(_in_range(getattr(facts, name)) for name in _instants(kind)):
            return facts
    try:
        fields = msgspec.json.decode(value or b"", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        return default
    hints = _hints(kind)
    valid = {
        name: read for name in hints if (read := _field(fields, name, hints[name])) is not None
    }
    known = {name: getattr(default, name) for name in hints}
    return kind(**(known | valid))


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _instants(kind: type[Any]) -> tuple[str, ...]:
    """The fields that may hold an instant."""
    return tuple(name for name, hint in _hints(kind).items() if "datetime" in str(hint))


def _field(fields: Mapping[str, Any], name: str, hint: Any) -> Any:
    try:
        value = msgspec.convert(fields.get(name), hint)
    except msgspec.ValidationError:
        return None
    return value if _in_range(value) else None


def _in_range(value: object) -> bool:
    """Whether one can calculate with an instant: the year 9999 overflows in another zone."""
    return not isinstance(value, datetime) or MIN_YEAR <= value.year <= MAX_YEAR


async def _members(redis: Redis, *command: str | int) -> list[str]:
    members: Iterable[bytes | str] = await _read(redis, *command)
    return sorted(
        member.decode(errors="replace") if isinstance(member, bytes) else member
        for member in members
    )


async def _values(redis: Redis, names: Sequence[str]) -> list[str | bytes | None]:
    # MGET returns nothing for a key of another type.
    return await _read(redis, "MGET", *names) if names else []


async def _read(redis: Redis, *command: str | int) -> Any:
    (response,) = await _execute(redis, command, atomic=False)
    return response


async def _execute(redis: Redis, *commands: RedisCommand, atomic: bool = True) -> list[Any]:
    """Send the commands in one round trip. Raises the error of the first that fails."""
    async with redis.pipeline(transaction=atomic) as pipe:
        for command in commands:
            pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
        responses = await pipe.execute(raise_on_error=False)
    for response in responses:
        if isinstance(response, Exception):
            raise response
    return responses
