"""What is written to Redis is what is read, and it goes away by itself."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest
from redis.asyncio import Redis

from app.core.enums import HealthReason, RunStatus, TickReason
from app.health.facts import JobFacts, WorkerFacts
from app.health.keys import (
    JOBS,
    delete_job,
    delete_worker,
    job_key,
    read_jobs,
    read_workers,
    worker_key,
    write_jobs,
    write_worker,
)
from tests.longest_step import longest_step
from tests.wait import until

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
FULL = JobFacts(
    job="poll",
    last_run=NOW,
    last_success=NOW,
    last_status=RunStatus.SUCCESS,
    next_run=NOW,
    interval_seconds=0.1,
    enabled=False,
    paused_at=NOW,
    paused_by="ann",
    paused_note="é <b>",
    running_since=NOW,
    last_error="boom",
    consecutive_failures=2,
    registered_at=NOW,
    silent_after=NOW,
    rested_until=NOW,
    history=(RunStatus.FAILURE, None, RunStatus.SUCCESS),
    failing_since=NOW,
    skip_streak=3,
    skipping_since=NOW,
    skip_reason=TickReason.OVERLAP,
    late_by=-0.5,
    grace_seconds=60.0,
    breach=HealthReason.DRIFT,
    breach_since=NOW,
    last_new=NOW,
    ran=9,
    due=10,
    succeeded=8,
    finished=9,
)


@pytest.mark.parametrize("facts", [FULL, JobFacts(job="poll")], ids=["full", "bare"])
async def test_a_job_is_read_as_it_was_written(redis: Redis, facts: JobFacts) -> None:
    await write_jobs(redis, [("poll", facts)])

    assert await read_jobs(redis) == {"poll": facts}


async def test_what_is_no_longer_known_is_forgotten(redis: Redis) -> None:
    await write_jobs(redis, [("poll", FULL)])
    await write_jobs(redis, [("poll", replace(FULL, paused_at=None, last_error=None))])

    assert await read_jobs(redis) == {"poll": replace(FULL, paused_at=None, last_error=None)}


async def test_a_value_that_cannot_be_read_is_not_known(redis: Redis) -> None:
    await write_jobs(redis, [("poll", FULL)])
    stored = json.loads(cast("bytes", await redis.get(job_key("poll"))))
    foreign = {"last_run": "yesterday", "last_status": "?", "interval_seconds": -1, "ran": 10**400}
    await redis.set(job_key("poll"), json.dumps(stored | foreign))

    assert await read_jobs(redis) == {"poll": replace(FULL, **dict.fromkeys(foreign))}


@pytest.mark.parametrize("junk", ["junk", b"\xff", "[]", "null", '{"job": 3}', "1e999"])
async def test_a_value_that_is_not_facts_does_not_blind_the_reader(
    redis: Redis, junk: str | bytes
) -> None:
    await write_jobs(redis, [("poll", FULL), ("other", JobFacts(job="other"))])
    await redis.set(job_key("other"), junk, ex=60)

    assert await read_jobs(redis) == {"other": JobFacts(job="other"), "poll": FULL}


async def test_a_key_of_another_type_does_not_blind_the_reader(redis: Redis) -> None:
    await write_jobs(redis, [("poll", FULL), ("other", JobFacts(job="other"))])
    await redis.delete(job_key("other"))
    await redis.execute_command("SADD", job_key("other"), "junk")  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here

    assert await read_jobs(redis) == {"other": JobFacts(job="other"), "poll": FULL}


async def test_a_forgotten_job_is_gone(redis: Redis) -> None:
    await write_jobs(redis, [("poll", FULL)])
    await delete_job(redis, "poll")

    assert await read_jobs(redis) == {}


async def test_a_worker_is_there_until_it_no_longer_beats(redis: Redis) -> None:
    worker = WorkerFacts(seen_at=NOW, started_at=NOW, host="h", running=3)
    await write_worker(redis, "w1", 0.3, worker)
    await write_worker(redis, "w2", 60, replace(worker, host=None))

    assert await read_workers(redis) == {"w1": worker, "w2": replace(worker, host=None)}

    async def only_the_second() -> bool:
        return set(await read_workers(redis)) == {"w2"}

    await until(only_the_second)
    await delete_worker(redis, "w2")
    assert await read_workers(redis) == {}


async def test_every_key_has_a_ttl(redis: Redis) -> None:
    await write_jobs(redis, [("poll", FULL)])
    await write_worker(redis, "w1", 45, WorkerFacts(seen_at=NOW))

    names: list[bytes] = await redis.keys()  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
    ttls = {name.decode(): await redis.ttl(name) for name in names}

    assert set(ttls) == {job_key("poll"), JOBS, worker_key("w1"), "rollcall:health:workers"}
    assert all(0 < ttl <= 30 * 24 * 3600 for ttl in ttls.values())


async def test_others_go_on_while_many_facts_are_read(redis: Redis) -> None:
    await write_jobs(redis, [(f"job{n}", FULL) for n in range(2_000)])

    async with longest_step() as longest:
        assert len(await read_jobs(redis)) == 2_000

    # In one piece, decoding would be most of the whole.
    assert longest.seconds < longest.total / 3
