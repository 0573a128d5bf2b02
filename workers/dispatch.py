"""Dispatch, every second: decides due ticks without a trigger, and admits organisations' runs."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from app.control import DecidingContext, deciding_context
from app.core.tasks import gather_fail_fast
from app.ledger import backfill
from app.ledger.decide import decide_built_in, decide_due
from app.ledger.remembered import RememberedRows
from app.queue import enqueue, org_queue
from app.queue.starts import NextStarts
from app.store.runs import backlog
from app.store.runs.run_rows import QueuedRunsPage
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import DueQuery
from workers import trigger

BATCH_SIZE = 500
BUILT_IN_BATCH_SIZE = 50  # as their runs start only when it is recorded
BATCH_SECONDS = 0.1  # assumed of the first batch
CONCURRENT_BATCHES = 2  # concurrent batches: one is decided while the other waits for Postgres
MANY_BATCHES = 2  # after so many, each of the concurrent ones sees to the planner's statistics
MAX_SECONDS = 10.0  # seconds that one dispatch may take; the next one continues
SKIP_SECONDS = 60.0  # seconds until an undecidable schedule is tried again


@dataclass(slots=True)
class DispatchState:
    """State of one process between dispatches; arq gives each cron job a new `ctx`.

    `busy`: a dispatch is under way. `skipped_until`: the monotonic time until which a schedule that
    could not be decided is skipped, by its version key. `sweep_page`: where the last sweep of
    organisations' runs stopped. `zones_ahead`: zones of which newer data is stored than this
    process has. `starts`: the next starts of built-in jobs, which batches make way for.
    """

    busy: bool = False
    skipped_until: dict[str, float] = field(default_factory=dict[str, float])
    sweep_page: QueuedRunsPage | None = None
    zones_ahead: frozenset[str] = frozenset()
    starts: NextStarts = field(default_factory=NextStarts)

    def skip(self, version_keys: list[str]) -> None:
        """Skip these schedules for a minute, so that they do not block the others."""
        self.skipped_until |= dict.fromkeys(version_keys, time.monotonic() + SKIP_SECONDS)

    def skipped(self) -> list[str]:
        """The version keys of the schedules skipped now."""
        now = time.monotonic()
        self.skipped_until = {k: until for k, until in self.skipped_until.items() if until > now}
        return list(self.skipped_until)


async def dispatch(ctx: dict[str, Any]) -> None:
    """Decide schedules whose trigger did not fire, or which have none. Runs every second."""
    await decide(ctx, MAX_SECONDS)


async def decide(ctx: dict[str, Any], seconds: float) -> None:
    """Decide due built-in schedules, then organisations' schedules for at most `seconds`."""
    context, state = deciding_context(ctx), dispatch_state(ctx)
    await _decide_built_in(context, ctx, state)
    await backfill.feed(context.control, context.redis, context.clock())
    if state.busy:  # the previous dispatch is still under way
        return
    state.busy = True
    try:
        deadline = time.monotonic() + seconds
        if await schedule_rows.any_due(context.control, _due_now(context, ctx, state)):
            await gather_fail_fast(
                _decide_batches(context, ctx, state, deadline) for _ in range(CONCURRENT_BATCHES)
            )
        await org_queue.admit_runs(context.redis)
    finally:
        state.busy = False


def dispatch_state(ctx: dict[str, Any]) -> DispatchState:
    """This worker's dispatch state, created at startup."""
    state: DispatchState = ctx.setdefault("turn", DispatchState())
    return state


async def _decide_built_in(
    context: DecidingContext, ctx: dict[str, Any], state: DispatchState
) -> None:
    due = _due_now(context, ctx, state)
    keys = await schedule_rows.due_built_in(context.control, due, head_start=trigger.DISPATCH_DELAY)
    remembered: RememberedRows = ctx.get("remembered") or RememberedRows()
    for start in range(0, len(keys), BUILT_IN_BATCH_SIZE):
        some = keys[start : start + BUILT_IN_BATCH_SIZE]
        batch = await decide_built_in(context.control, some, due.now, remembered)
        state.skip(batch.undecidable)
        await enqueue.enqueue_runs(context.control, context.redis, batch.queued)


async def _decide_batches(
    context: DecidingContext, ctx: dict[str, Any], state: DispatchState, deadline: float
) -> None:
    found, took, batches = BATCH_SIZE, BATCH_SECONDS, 0
    while found == BATCH_SIZE and time.monotonic() < deadline:
        await asyncio.sleep(state.starts.rest(took))
        began = time.monotonic()
        batch = await decide_due(context.control, _due_now(context, ctx, state))
        found = batch.found
        state.skip(batch.undecidable)
        await enqueue.enqueue_runs(context.control, context.redis, batch.queued)
        took = time.monotonic() - began
        batches += 1
        if batches == MANY_BATCHES:
            await backlog.count_for_planner(context.control)


def _due_now(context: DecidingContext, ctx: dict[str, Any], state: DispatchState) -> DueQuery:
    return DueQuery(context.clock(), BATCH_SIZE, trigger.known_jobs(ctx), state.skipped())
