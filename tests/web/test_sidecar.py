"""The health addresses beside the overall ones."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts
from app.health.keys import (
    write_accounting,
    write_alerting,
    write_collections,
    write_jobs,
    write_worker,
)
from tests.redis_process import RedisProcess
from tests.web.harness import JOB, Visit, good

NOW = datetime.now(UTC)
SILENT = replace(good(), last_run=NOW - timedelta(hours=1))
BEAT = WorkerFacts(seen_at=NOW, started_at=NOW, running=2)


async def test_the_workers_that_beat_are_named_with_the_age_of_their_beat(
    web: Visit, redis: Redis
) -> None:
    await write_worker(redis, "w1", 45, replace(BEAT, seen_at=datetime.now(UTC)))

    async with web() as client:
        answer = await client.get("/health/workers")

    worker = answer.json()["workers"]["w1"]
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    assert (worker["running"], worker["age_seconds"] < 60) == (2, True)


async def test_no_worker_is_503_and_says_so_which_is_not_what_an_idle_house_says(
    web: Visit, redis: Redis
) -> None:
    await write_jobs(redis, [(JOB, good())])

    async with web() as client:
        dead = await client.get("/health/workers")
    await write_worker(redis, "w1", 45, BEAT)
    async with web() as client:
        idle = await client.get("/health/workers")

    assert (dead.status_code, dead.json()["reason"]) == (503, "no_workers")
    assert (idle.status_code, "reason" in idle.json()) == (200, False)


async def test_a_job_is_told_with_since_and_why_and_the_shares_of_what_ran(
    web: Visit, redis: Redis
) -> None:
    facts = replace(SILENT, ran=9, due=10, succeeded=4, finished=8, last_error="key=1 token=abc123")
    await write_jobs(redis, [(JOB, facts)])

    async with web() as client:
        answer = await client.get(f"/health/jobs/{JOB}")
        listed = await client.get("/health/scheduler")

    result = answer.json()
    assert (answer.status_code, result["health"]["reason"]) == (503, "overdue")
    assert result["since"] == result["health"]["since"] is not None
    assert (result["adherence"], result["success_rate"]) == (0.9, 0.5)
    assert "was expected to run by" in result["detail"]
    assert result["reason"] == listed.json()["reason"] == "no_workers"
    assert "abc123" not in answer.text


async def test_an_unknown_job_is_404_and_a_job_that_is_well_200(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, good())])

    async with web() as client:
        unknown = await client.get("/health/jobs/nothing")
        well = await client.get(f"/health/jobs/{JOB}")

    assert (unknown.status_code, unknown.json()["reason"]) == (404, "unknown_job")
    assert (well.status_code, well.json()["detail"]) == (200, None)


async def test_a_badge_is_a_picture_that_says_how_the_job_stands(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, SILENT)])

    async with web() as client:
        ill = await client.get(f"/badge/{JOB}.svg")
        whole = await client.get("/badge/scheduler.svg")
        unknown = await client.get("/badge/a<b&c.svg")

    assert ill.headers["content-type"] == "image/svg+xml"
    assert ET.fromstring(ill.text)[0].text == f"{JOB}: overdue"  # noqa: S314 - our own
    assert ET.fromstring(whole.text)[0].text == "scheduler: no workers"  # noqa: S314 - our own
    assert (unknown.status_code, ET.fromstring(unknown.text)[0].text) == (404, "a<b&c: no such job")  # noqa: S314 - our own


def never_ran(age: timedelta = timedelta(0)) -> JobFacts:
    registered_at = datetime.now(UTC) - age
    return replace(
        good(), last_run=None, last_success=None, last_status=None, registered_at=registered_at
    )


GREEN, RED, AMBER, GREY = "#1a7f37", "#b3261e", "#8a5a00", "#57606a"


@pytest.mark.parametrize(
    ("facts", "text", "colour"),
    [
        (good, "healthy", GREEN),
        (lambda: SILENT, "overdue", RED),
        (never_ran, "not started", AMBER),
        (lambda: never_ran(timedelta(hours=1)), "overdue", AMBER),
        (lambda: replace(good(), paused_at=NOW), "paused", GREY),
        (lambda: replace(good(), enabled=False), "paused", GREY),
    ],
    ids=["well", "silent", "new", "never ran", "paused", "disabled"],
)
async def test_a_badge_has_the_text_and_the_colour_of_its_status(
    web: Visit, redis: Redis, facts: Callable[[], JobFacts], text: str, colour: str
) -> None:
    await write_jobs(redis, [(JOB, facts())])

    async with web() as client:
        badge = ET.fromstring((await client.get(f"/badge/{JOB}.svg")).text)  # noqa: S314 - our own

    shown = [one.text for one in badge.iter("{http://www.w3.org/2000/svg}text")]
    assert shown == [JOB, text]
    assert badge[2].get("fill") == colour


async def test_the_badge_of_all_jobs_is_green_only_if_none_is_at_fault(
    web: Visit, redis: Redis
) -> None:
    await write_worker(redis, "w1", 45, replace(BEAT, seen_at=datetime.now(UTC)))
    found: list[tuple[str | None, str | None]] = []
    for facts in (good(), SILENT):
        await write_jobs(redis, [(JOB, facts)])
        async with web() as client:
            badge = ET.fromstring((await client.get("/badge/scheduler.svg")).text)  # noqa: S314 - our own
        found.append((badge[0].text, badge[2].get("fill")))

    assert found == [("scheduler: healthy", GREEN), ("scheduler: unhealthy", RED)]


async def test_a_badge_of_no_job_is_grey_and_cuts_a_long_name(web: Visit) -> None:
    async with web() as client:
        badge = ET.fromstring((await client.get(f"/badge/{'x' * 90}.svg")).text)  # noqa: S314 - our own

    assert (badge[0].text, badge[2].get("fill")) == (f"{'x' * 60}: no such job", GREY)


async def test_no_address_of_health_is_answered_from_a_cache(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, good())])
    addresses = ("/health", "/health/scheduler", "/health/workers", f"/health/jobs/{JOB}")
    others = ("/livez", "/readyz", "/health/jobs/nobody", "/metrics")

    async with web() as client:
        found = {
            path: (await client.get(path)).headers["cache-control"]
            for path in (*addresses, *others)
        }
        badge = (await client.get(f"/badge/{JOB}.svg")).headers["cache-control"]

    assert found == dict.fromkeys((*addresses, *others), "no-store")
    assert badge == "no-cache, max-age=0"


async def test_without_redis_every_address_still_answers(
    web: Visit, redis_server: RedisProcess
) -> None:
    redis_server.kill()

    async with web() as client:
        job = await client.get(f"/health/jobs/{JOB}")
        workers = await client.get("/health/workers")
        badge = await client.get(f"/badge/{JOB}.svg")

    assert (job.status_code, job.json()["reason"]) == (503, "redis_unreachable")
    assert (workers.status_code, workers.json()["reason"]) == (503, "redis_unreachable")
    assert (badge.status_code, "unknown" in badge.text) == (200, True)


async def test_without_workers_health_says_so_only_if_redis_would_take_their_heartbeats(
    web: Visit, redis_server: RedisProcess, redis: Redis
) -> None:
    await write_jobs(redis, [(JOB, good())])
    async with web() as client:
        empty = (await client.get("/health")).json()
    await redis_server.refuse_writes()

    async with web() as client:
        found = [(await client.get(path)).json() for path in ("/health", "/health/workers")]
        badge = await client.get("/badge/scheduler.svg")

    assert empty["reason"] == "no_workers"
    assert [one["reason"] for one in found] == ["redis_refuses_writes"] * 2
    assert "redis refuses writes" in badge.text


async def test_the_summary_counts_collections_and_says_that_alerts_cannot_be_sent(
    web: Visit, redis: Redis
) -> None:
    await write_jobs(redis, [(JOB, good())])
    await write_worker(redis, "w1", 45, BEAT)
    await write_collections(redis, CollectionFacts(NOW, healthy=7, unhealthy=2, overdue=2))
    await write_accounting(redis, SystemFacts(unaccounted=0, checked_at=NOW))
    await write_alerting(redis, SystemFacts(pending=1, failing_since=NOW, notifier_error="refused"))

    async with web() as client:
        result = (await client.get("/health")).json()

    assert (result["collections"]["healthy"], result["collections"]["overdue"]) == (7, 2)
    assert result["unaccounted"] == 0
    assert (result["alerts"]["pending"], result["alerts"]["error"]) == (1, "refused")
