"""Organisations' runs wait in a line of their own, and come into arq's queue as slots fall free."""

from datetime import timedelta
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.constants import default_queue_name, job_key_prefix

from app.queue import org_queue
from app.queue.cron import utc_now
from app.queue.jobs import enqueue
from app.queue.org_queue import ORG_QUEUE, SLOW_SECONDS, OrgQueueEntry


def waiters(count: int, *, took: float = 0.0, name: str = "quick") -> list[OrgQueueEntry]:
    return [
        OrgQueueEntry("collection", [f"{name}-{n}"], f"run:{name}-{n}:1", took)
        for n in range(count)
    ]


async def admitted(redis: ArqRedis) -> list[str]:
    ids = cast("list[bytes]", await cast("Any", redis).zrange(default_queue_name, 0, -1))
    return sorted(job_id.decode() for job_id in ids)


async def ended(redis: ArqRedis, job_id: str) -> None:
    """What arq does when a job has ended."""
    await cast("Any", redis).zrem(default_queue_name, job_id)
    await cast("Any", redis).delete(job_key_prefix + job_id)


async def test_no_more_are_let_in_than_there_are_slots(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 3, 60)
    await org_queue.announce_slots(redis, "w2", 2, 60)
    await org_queue.add_runs(redis, waiters(1_200))

    counts = [await org_queue.admit_runs(redis) for _ in range(3)]

    assert counts == [5, 0, 0]
    assert len(await admitted(redis)) == 5
    assert await org_queue.length(redis) == 1_195


async def test_nobody_is_let_in_while_no_worker_offers_a_slot(redis: ArqRedis) -> None:
    await org_queue.add_runs(redis, waiters(3))
    await org_queue.announce_slots(redis, "w1", 3, 60)
    await org_queue.withdraw_slots(redis, "w1", 3)
    await org_queue.announce_slots(redis, "dead", 3, -1)

    assert await org_queue.admit_runs(redis) == 0


async def test_the_next_comes_in_when_one_has_ended(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await org_queue.add_runs(redis, waiters(3))
    await org_queue.admit_runs(redis)
    (first,) = await admitted(redis)

    at_its_end = await org_queue.admit_runs(redis, ended=first)
    await ended(redis, first)

    assert at_its_end == 1
    assert len(await admitted(redis)) == 1
    assert await org_queue.admit_runs(redis) == 0


async def test_who_was_slow_waits_in_proportion(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await org_queue.add_runs(redis, waiters(1, took=50, name="slow"))
    await org_queue.add_runs(redis, waiters(1, took=1, name="quick"))

    await org_queue.admit_runs(redis)

    assert await admitted(redis) == ["run:quick-0:1"]


async def test_slow_organisations_have_at_most_half_of_the_slots(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 6, 60)
    await org_queue.add_runs(redis, waiters(20, took=SLOW_SECONDS + 1, name="slow"))

    await org_queue.admit_runs(redis)
    await org_queue.add_runs(redis, waiters(20))
    await org_queue.admit_runs(redis)

    inside = await admitted(redis)
    assert [name.split("-")[0] for name in inside] == ["run:quick"] * 3 + ["run:slow"] * 3


async def test_one_that_was_put_off_is_let_in_when_its_time_has_come(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 5, 60)
    later = OrgQueueEntry("collection", ["a"], "run:a:1", not_before=utc_now() + timedelta(hours=1))
    due = OrgQueueEntry("collection", ["b"], "run:b:1", not_before=utc_now() - timedelta(seconds=1))
    await org_queue.add_runs(redis, [later, due])

    await org_queue.admit_runs(redis)

    assert await admitted(redis) == ["run:b:1"]
    assert await org_queue.are_queued(redis, ["run:a:1", "run:b:1"]) == [True, True]


async def test_a_run_waits_once_however_often_it_is_told(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)

    told = [await org_queue.add_runs(redis, waiters(2)) for _ in range(2)]
    await org_queue.admit_runs(redis)
    told.append(await org_queue.add_runs(redis, waiters(2)))

    assert told == [2, 0, 0]


@pytest.mark.parametrize("lost", ["body", "entry"])
async def test_half_a_run_is_none(redis: ArqRedis, lost: str) -> None:
    await org_queue.add_runs(redis, waiters(2))
    any_ = cast("Any", redis)
    if lost == "body":
        await any_.delete(job_key_prefix + "run:quick-0:1")
    else:
        await any_.zrem(ORG_QUEUE, "run:quick-0:1")

    known = await org_queue.are_queued(redis, ["run:quick-0:1", "run:quick-1:1"])

    assert known == [False, True]


async def test_one_whose_body_has_expired_is_passed_over(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await org_queue.add_runs(redis, waiters(1, name="first"))
    await org_queue.add_runs(redis, waiters(1, name="second", took=5))
    await cast("Any", redis).delete(job_key_prefix + "run:first-0:1")

    await org_queue.admit_runs(redis)

    assert await admitted(redis) == ["run:second-0:1"]


async def test_what_is_in_arqs_queue_by_itself_is_known(redis: ArqRedis) -> None:
    await enqueue(redis, "scrape_all_platforms", "x", job_id="run:x:1")

    assert await org_queue.are_queued(redis, ["run:x:1", "run:y:1"]) == [True, False]
