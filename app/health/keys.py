"""Health facts in Redis: one hash per job and per worker, with an index of each.

Every key has a TTL. A value that cannot be parsed reads as None, so that a damaged key does not
break reading the others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.health import codec
from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts

JOBS = "rollcall:health:jobs"
WORKERS = "rollcall:health:workers"
COLLECTIONS = "rollcall:health:collections"
COLLECTIONS_TTL = 3600  # seconds
SYSTEM = "rollcall:health:house"
SYSTEM_TTL = 24 * 3600  # seconds
JOB_TTL = 30 * 24 * 3600  # seconds
BATCH = 10  # jobs per round trip, so that Redis is not blocked for long
INDEX_GRACE = 600  # seconds by which the clocks of workers may differ

RedisCommand = tuple[str | float, ...]


def job_key(key: str) -> str:
    """The Redis key of the job's hash."""
    return f"rollcall:health:job:{key}"


def worker_key(worker_id: str) -> str:
    """The Redis key of the worker's hash."""
    return f"rollcall:health:worker:{worker_id}"


async def write_job(redis: Redis, key: str, fields: JobFacts) -> None:
    """Write the facts of a job and delete the fields that are None, in one transaction.

    `redis` may decode responses or not.
    """
    await write_jobs(redis, [(key, fields)])


async def write_jobs(redis: Redis, jobs: Iterable[tuple[str, JobFacts]]) -> None:
    """Write the facts of these jobs as `write_job` does, BATCH jobs per transaction."""
    remaining = iter(jobs)
    while batch := list(islice(remaining, BATCH)):
        puts = [_put(job_key(key), codec.job_values(fields)) for key, fields in batch]
        await _execute(
            redis,
            *chain.from_iterable(puts),
            *(("EXPIRE", job_key(key), JOB_TTL) for key, _ in batch),
            ("SADD", JOBS, *(key for key, _ in batch)),
            ("EXPIRE", JOBS, JOB_TTL),
        )


async def read_jobs(redis: Redis) -> dict[str, JobFacts]:
    """Every known job by its key, sorted. Two round trips.

    For a job in the index whose hash has expired, all facts but its name are None.
    """
    keys = await _members(redis, ("SMEMBERS", JOBS))
    hashes = await _hashes(redis, [job_key(key) for key in keys])
    return {key: codec.job_facts(key, values) for key, values in zip(keys, hashes, strict=True)}


async def delete_job(redis: Redis, key: str) -> None:
    """Delete a job that is no longer declared."""
    await _execute(redis, ("DEL", job_key(key)), ("SREM", JOBS, key))


async def write_worker(redis: Redis, worker_id: str, ttl: float, facts: WorkerFacts) -> None:
    """Record a heartbeat: the worker counts as live for `ttl` seconds."""
    seen = facts.seen_at.timestamp()
    await _execute(
        redis,
        *_put(worker_key(worker_id), codec.worker_values(facts)),
        ("PEXPIRE", worker_key(worker_id), math.ceil(ttl * 1000)),
        ("ZREMRANGEBYSCORE", WORKERS, "-inf", seen - INDEX_GRACE),
        ("ZADD", WORKERS, seen + ttl, worker_id),
        ("EXPIRE", WORKERS, JOB_TTL),
    )


async def read_workers(redis: Redis) -> dict[str, WorkerFacts]:
    """The live workers by id. The TTL of their keys decides, so no clocks are compared."""
    ids = await _members(redis, ("ZRANGE", WORKERS, 0, -1))
    hashes = await _hashes(redis, [worker_key(worker_id) for worker_id in ids])
    pairs = zip(ids, hashes, strict=True)
    return {worker_id: codec.worker_facts(values) for worker_id, values in pairs if values}


async def delete_worker(redis: Redis, worker_id: str) -> None:
    """Delete a worker that shut down."""
    await _execute(redis, ("DEL", worker_key(worker_id)), ("ZREM", WORKERS, worker_id))


async def write_collections(redis: Redis, facts: CollectionFacts) -> None:
    """Write the numbers of collections by status."""
    await _execute(
        redis,
        *_put(COLLECTIONS, codec.collection_values(facts)),
        ("EXPIRE", COLLECTIONS, COLLECTIONS_TTL),
    )


async def read_collections(redis: Redis) -> CollectionFacts | None:
    """The numbers of collections when last counted; None if never counted."""
    (values,) = await _hashes(redis, [COLLECTIONS])
    return codec.collection_facts(values)


async def write_accounting(redis: Redis, facts: SystemFacts) -> None:
    """Write the number of ticks without an outcome."""
    await _write_system(redis, codec.system_values(facts, ("unaccounted", "checked_at")))


async def write_alerting(redis: Redis, facts: SystemFacts) -> None:
    """Write the state of alert delivery."""
    names = ("pending", "failing_since", "notifier_error")
    await _write_system(redis, codec.system_values(facts, names))


async def _write_system(redis: Redis, values: Mapping[str, str | None]) -> None:
    await _execute(redis, *_put(SYSTEM, values), ("EXPIRE", SYSTEM, SYSTEM_TTL))


async def read_system(redis: Redis) -> SystemFacts:
    """The facts of the whole system."""
    (values,) = await _hashes(redis, [SYSTEM])
    return codec.system_facts(values)


async def _execute(redis: Redis, *commands: RedisCommand) -> None:
    for response in await _send(redis, commands, atomic=True):
        if isinstance(response, Exception):
            raise response


async def _members(redis: Redis, command: RedisCommand) -> list[str]:
    (response,) = await _send(redis, (command,), atomic=False)
    if isinstance(response, Exception):
        raise response
    return sorted(_text(member) for member in cast("Iterable[bytes | str]", response))


async def _hashes(redis: Redis, names: Iterable[str]) -> list[dict[str, str]]:
    commands = [("HGETALL", name) for name in names]
    return [_hash(response) for response in await _send(redis, commands, atomic=False)]


async def _send(redis: Redis, commands: Sequence[RedisCommand], *, atomic: bool) -> list[object]:
    async with redis.pipeline(transaction=atomic) as pipe:
        for command in commands:
            pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
        return await pipe.execute(raise_on_error=False)


def _hash(response: object) -> dict[str, str]:
    if isinstance(response, ResponseError):
        return {}  # the key holds another type than a hash
    if isinstance(response, Exception):
        raise response
    values = cast("Mapping[bytes | str, bytes | str]", response)
    return {_text(name): _text(value) for name, value in values.items()}


def _put(name: str, values: Mapping[str, str | None]) -> list[RedisCommand]:
    known = [part for pair in values.items() if pair[1] is not None for part in pair]
    unknown = [field for field, value in values.items() if value is None]
    commands: list[RedisCommand] = [("HSET", name, *(str(part) for part in known))] if known else []
    return [*commands, ("HDEL", name, *unknown)] if unknown else commands


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
