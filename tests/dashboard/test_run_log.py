"""The log of a run is kept for a while, never more than so much of it, and without secrets."""

import logging
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import structlog
from arq.connections import ArqRedis

from app.core import log
from app.runs import log as run_log
from tests.wait import until

SECRET = "sk-very-secret-value"  # noqa: S105 - not one


async def test_the_last_lines_of_a_run_are_kept_for_a_day(redis: ArqRedis) -> None:
    run_id = uuid4()
    log.configure()
    async with run_log.capture(redis):
        with structlog.contextvars.bound_contextvars(execution_id=str(run_id), job="a"):
            for number in range(run_log.MAX_LINES + 5):
                log.logger("x").warning("page.rejected", page=number, why="no odds")
        log.logger("x").warning("of.no.run")

    lines = await run_log.read_lines(redis, run_id)
    assert len(lines) == run_log.MAX_LINES
    assert lines[-1].endswith(f'warning page.rejected page={run_log.MAX_LINES + 4} why="no odds"')
    assert 0 < await redis.ttl(run_log.key(run_id)) <= run_log.RETENTION_SECONDS


async def test_a_kept_line_shows_no_secret_and_is_never_long(redis: ArqRedis) -> None:
    run_id = uuid4()
    log.configure()
    async with run_log.capture(redis, [SECRET]):
        log.logger("x").warning("a", execution_id=str(run_id), url=f"https://u:p@x/{SECRET}")
        log.logger("x").warning("b", execution_id=str(run_id), body="x" * 10_000)

    first, second = await run_log.read_lines(redis, run_id)
    assert SECRET not in first
    assert "u:p@" not in first
    assert len(second.encode()) == run_log.MAX_LINE_LENGTH


async def _say(redis: ArqRedis, job: str | None, runs: int, lines: int = 1) -> list[UUID]:
    """Write lines of runs of a job, as long as they may be; return the runs."""
    ids = [uuid4() for _ in range(runs)]
    for run_id in ids:
        await _write(redis, job, run_id, lines)
    return ids


async def _write(redis: ArqRedis, job: str | None, run_id: UUID, lines: int = 1) -> None:
    fields = {} if job is None else {"job": job}
    async with run_log.capture(redis):
        for _ in range(lines):
            log.logger("x").warning("a", execution_id=str(run_id), why="é" * 500, **fields)


async def _kept(redis: ArqRedis, ids: list[UUID]) -> int:
    return sum([bool(await run_log.read_lines(redis, one)) for one in ids])


async def test_only_so_many_runs_of_an_owner_are_kept(
    redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = replace(run_log.BOUNDS, operator=(3, 1_000_000), tenant=(2, 1_000_000))
    monkeypatch.setattr(run_log, "BOUNDS", bounds)
    log.configure()

    operator = await _say(redis, "poll_news", 2)
    tenant = await _say(redis, f"collection:{uuid4()}:prices", 5)
    unknown = await _say(redis, None, 5)

    assert await _kept(redis, operator) == 2
    assert await _kept(redis, tenant) == 2
    assert await _kept(redis, unknown) == 2
    assert await _kept(redis, await _say(redis, "poll_news", 5)) == 3


async def test_a_line_is_kept_while_its_run_goes_on(redis: ArqRedis) -> None:
    log.configure()
    run_id = uuid4()

    async def kept() -> bool:
        return bool(await run_log.read_lines(redis, run_id))

    async with run_log.capture(redis):
        log.logger("x").warning("a", execution_id=str(run_id), job="poll_news")
        await until(kept, what="the line to be kept")


async def test_a_line_without_a_job_leaves_a_run_to_its_owner(
    redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = replace(run_log.BOUNDS, operator=(9, 1_000_000), tenant=(2, 1_000_000))
    monkeypatch.setattr(run_log, "BOUNDS", bounds)
    log.configure()
    ids = await _say(redis, "poll_news", 5)

    for run_id in ids:
        await _write(redis, None, run_id)  # such as `run.lost`
    async with run_log.capture(redis):  # of all in one flush
        for run_id in (*ids, *(uuid4() for _ in range(5))):
            log.logger("x").error("run.lost", execution_id=str(run_id))

    assert await _kept(redis, ids) == 5


async def test_what_runs_without_a_job_say_is_bounded_as_it_grows(redis: ArqRedis) -> None:
    log.configure()
    ids = await _say(redis, None, 15)

    for run_id in ids:
        await _write(redis, None, run_id, run_log.MAX_LINES)

    assert 0 < await _kept(redis, ids) < 15


async def test_what_a_tenants_runs_say_is_bounded_in_bytes(redis: ArqRedis) -> None:
    log.configure()
    operator = await _say(redis, "poll_news", 1)
    for _ in range(2):
        org_id = uuid4()
        ids = await _say(redis, f"collection:{org_id}", 15, run_log.MAX_LINES)
        sizes = [await redis.memory_usage(run_log.key(one)) or 0 for one in ids]  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here

        assert run_log.BOUNDS.tenant[1] / 2 < sum(sizes) <= run_log.BOUNDS.tenant[1]
    assert await _kept(redis, operator) == 1


async def test_a_log_that_nobody_carries_off_stays_small(redis: ArqRedis) -> None:
    keeper = run_log.RunLogHandler(dict)
    record = logging.LogRecord("x", logging.INFO, "", 0, "", None, None)
    record.msg = {"event": "a", "execution_id": "r"}  # as structlog does

    for _ in range(run_log.MAX_PENDING_LINES + 100):
        keeper.emit(record)

    assert len(keeper.pending) == run_log.MAX_PENDING_LINES
    assert await redis.exists(run_log.key("r")) == 0
