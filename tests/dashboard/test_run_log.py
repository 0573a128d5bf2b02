"""The log of a run is kept for a while, never more than so much of it, and without secrets."""

import logging
from uuid import uuid4

import structlog
from arq.connections import ArqRedis

from app.core import log
from app.runs import log as run_log

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
    assert len(second) == run_log.MAX_LINE_LENGTH


async def test_only_so_many_runs_are_kept(redis: ArqRedis) -> None:
    await redis.zadd(run_log.INDEX_KEY, {f"old-{n}": n for n in range(run_log.MAX_RUNS)})
    await redis.set(run_log.key("old-0"), "x", ex=60)
    run_id = uuid4()
    log.configure()

    async with run_log.capture(redis):
        log.logger("x").warning("a", execution_id=str(run_id))

    assert await redis.zcard(run_log.INDEX_KEY) == run_log.MAX_RUNS
    assert await redis.exists(run_log.key("old-0")) == 0
    assert len(await run_log.read_lines(redis, run_id)) == 1


async def test_a_log_that_nobody_carries_off_stays_small(redis: ArqRedis) -> None:
    keeper = run_log.RunLogHandler(dict)
    record = logging.LogRecord("x", logging.INFO, "", 0, "", None, None)
    record.msg = {"event": "a", "execution_id": "r"}  # as structlog does

    for _ in range(run_log.MAX_PENDING_LINES + 100):
        keeper.emit(record)

    assert len(keeper.pending) == run_log.MAX_PENDING_LINES
    assert await redis.exists(run_log.key("r")) == 0
