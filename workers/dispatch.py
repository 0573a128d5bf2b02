"""Dispatch, every second: decides due ticks without a trigger, and admits organisations' runs."""

import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from app.context import WorkerContext, worker_context
from app.core import log
from app.core.tasks import gather_fail_fast
from app.ledger import decide as batches
from app.ledger import edit
from app.queue import enqueue, org_queue
from app.store.db import UNAVAILABLE
from app.store.runs.run_rows import QueuedRunsPage
from app.store.schedules import decisions as store
from app.store.schedules import schedule_rows
from app.store.schedules.decisions import DueQuery
from workers import trigger

BATCH_SIZE = 500
CONCURRENT_BATCHES = 2  # concurrent batches: one is decided while the other waits for Postgres
MAX_SECONDS = 10.0  # seconds that one dispatch may take; the next one continues
SKIP_SECONDS = 60.0  # seconds until an undecidable schedule is tried again

_log = log.logger(__name__)


@dataclass(slots=True)
class DispatchState:
    """State of one process between dispatches; arq gives each cron job a new `ctx`.

    `busy`: a dispatch is under way. `skipped_until`: schedules that could not be decided, until
    when.
    `sweep_page`: where the last sweep of organisations' runs stopped.
    """

    busy: bool = False
    skipped_until: dict[str, float] = field(
        default_factory=dict[str, float]
    )  # mark, monotonic deadline
    sweep_page: QueuedRunsPage | None = None

    def skip(self, marks: list[str]) -> None:
        """Skip these schedules for a minute, so that they do not block the others."""
        self.skipped_until |= dict.fromkeys(marks, time.monotonic() + SKIP_SECONDS)

    def skipped_marks(self) -> list[str]:
        """The marks of the schedules skipped now."""
        now = time.monotonic()
        self.skipped_until = {
            mark: until for mark, until in self.skipped_until.items() if until > now
        }
        return list(self.skipped_until)


async def dispatch(ctx: dict[str, Any]) -> None:
    """Decide schedules whose trigger did not fire, or which have none. Runs every second."""
    await decide(ctx, MAX_SECONDS)


async def decide(ctx: dict[str, Any], seconds: float) -> None:
    """Decide due built-in schedules, then organisations' schedules for at most `seconds`."""
    context = worker_context(ctx)
    await _built_in(context, ctx)
    turn = dispatch_state(ctx)
    if turn.busy:  # the previous dispatch is still under way
        return
    turn.busy = True
    try:
        await _organisations(context, ctx, turn, time.monotonic() + seconds)
        await org_queue.admit_runs(context.redis)
    finally:
        turn.busy = False


def dispatch_state(ctx: dict[str, Any]) -> DispatchState:
    """This worker's dispatch state, created at startup."""
    turn: DispatchState = ctx.setdefault("turn", DispatchState())
    return turn


async def _built_in(context: WorkerContext, ctx: dict[str, Any]) -> None:
    for key in await schedule_rows.due(
        context.pool,
        context.clock(),
        jobs=trigger.known_jobs(ctx),
        head_start=trigger.DISPATCH_DELAY,
    ):
        try:
            queued = await edit.decide_schedule(context.pool, key, context.clock())
            await enqueue.enqueue_runs(context.pool, context.redis, queued)
        except (RedisError, *UNAVAILABLE):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback
            # One unreadable schedule must not keep the others from being decided.
            _log.exception("schedule.undecidable", schedule=key)


async def _organisations(
    context: WorkerContext, ctx: dict[str, Any], turn: DispatchState, deadline: float
) -> None:
    if await store.any_due(context.pool, _due_now(context, ctx, turn)):
        await gather_fail_fast(
            _decide_batches(context, ctx, turn, deadline) for _ in range(CONCURRENT_BATCHES)
        )


async def _decide_batches(
    context: WorkerContext, ctx: dict[str, Any], turn: DispatchState, deadline: float
) -> None:
    found = BATCH_SIZE
    while found == BATCH_SIZE and time.monotonic() < deadline:
        batch = await batches.decide_due(context.pool, _due_now(context, ctx, turn))
        found = batch.found
        turn.skip(batch.undecidable)
        await enqueue.enqueue_runs(context.pool, context.redis, batch.queued)


def _due_now(context: WorkerContext, ctx: dict[str, Any], turn: DispatchState) -> DueQuery:
    return DueQuery(context.clock(), BATCH_SIZE, trigger.known_jobs(ctx), turn.skipped_marks())
