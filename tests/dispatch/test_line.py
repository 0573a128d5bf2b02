"""Organisations' runs wait in a line of their own, and come into arq's queue as slots fall free."""

from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.constants import default_queue_name, job_key_prefix

from app.queue import org_queue
from app.queue.jobs import enqueue
from app.queue.org_queue import ORG_QUEUE, SLOW_SECONDS
from app.store.runs.run_rows import QueuedRun
from tests.dispatch.orgs import add, run_id
from tests.wait import until


def arq_id(name: str) -> str:
    return QueuedRun(run_id(name), "collection").arq_id


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
    await add(redis, 1_200)

    counts = [await org_queue.admit_runs(redis) for _ in range(3)]

    assert counts == [5, 0, 0]
    assert len(await admitted(redis)) == 5
    assert await org_queue.length(redis) == 1_195


async def test_nobody_is_let_in_while_no_worker_offers_a_slot(redis: ArqRedis) -> None:
    await add(redis, 3)
    await org_queue.announce_slots(redis, "w1", 3, 60)
    await org_queue.withdraw_slots(redis, "w1", 3)
    await org_queue.announce_slots(redis, "dead", 3, -1)

    assert await org_queue.admit_runs(redis) == 0


async def test_the_next_comes_in_when_one_has_ended(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await add(redis, 3)
    await org_queue.admit_runs(redis)
    (first,) = await admitted(redis)

    at_its_end = await org_queue.admit_runs(redis, ended=first)
    await ended(redis, first)

    assert at_its_end == 1
    assert len(await admitted(redis)) == 1
    assert await org_queue.admit_runs(redis) == 0


async def test_who_was_slow_waits_in_proportion(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await add(redis, 1, took=50, name="slow")
    await add(redis, 1, took=1, name="quick")

    await org_queue.admit_runs(redis)

    assert await admitted(redis) == [arq_id("quick-0")]


async def test_slow_organisations_have_at_most_half_of_the_slots(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 6, 60)
    await add(redis, 20, took=SLOW_SECONDS + 1, name="slow")

    await org_queue.admit_runs(redis)
    await add(redis, 20)
    await org_queue.admit_runs(redis)

    quick = {arq_id(f"quick-{n}") for n in range(20)}
    inside = await admitted(redis)
    assert (len(inside), len(quick.intersection(inside))) == (6, 3)


async def test_one_that_was_put_off_is_let_in_when_its_time_has_come(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 5, 60)
    later, due = (QueuedRun(run_id(name), "collection") for name in "ab")
    await org_queue.add_runs(redis, [later], defer_by=3600)
    await org_queue.add_runs(redis, [due], defer_by=0.1)

    async def admit() -> list[str]:
        await org_queue.admit_runs(redis)
        return await admitted(redis)

    assert await until(admit) == [due.arq_id]
    assert await org_queue.are_queued(redis, [due.arq_id]) == [True]
    assert await org_queue.length(redis) == 1


async def test_a_run_waits_once_however_often_it_is_told(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)

    result = [await add(redis, 2) for _ in range(2)]
    await org_queue.admit_runs(redis)
    result.append(await add(redis, 2))

    assert result == [2, 0, 0]


@pytest.mark.parametrize("lost", ["body", "entry"])
async def test_half_a_run_is_none(redis: ArqRedis, lost: str) -> None:
    await add(redis, 2)
    any_ = cast("Any", redis)
    if lost == "body":
        await any_.delete(job_key_prefix + arq_id("quick-0"))
    else:
        await any_.zrem(ORG_QUEUE, arq_id("quick-0"))

    known = await org_queue.are_queued(redis, [arq_id("quick-0"), arq_id("quick-1")])

    assert known == [False, True]


async def test_one_whose_body_has_expired_is_passed_over(redis: ArqRedis) -> None:
    await org_queue.announce_slots(redis, "w1", 1, 60)
    await add(redis, 1, name="first")
    await add(redis, 1, name="second", took=5)
    await cast("Any", redis).delete(job_key_prefix + arq_id("first-0"))

    await org_queue.admit_runs(redis)

    assert await admitted(redis) == [arq_id("second-0")]


async def test_what_is_in_arqs_queue_by_itself_is_known(redis: ArqRedis) -> None:
    await enqueue(redis, "scrape_all_platforms", "x", job_id="run:x:1")

    assert await org_queue.are_queued(redis, ["run:x:1", "run:y:1"]) == [True, False]
