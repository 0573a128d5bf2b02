"""Dispatch, every second: decides due ticks without a trigger, and admits organisations' runs."""

import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from app.context import House, ctx_house
from app.core import log
from app.core.tasks import together
from app.ledger import decide as batches
from app.ledger import edit
from app.queue import org_queue
from app.store.db import AWAY
from app.store.runs.run_rows import Page
from app.store.schedules import decisions as store
from app.store.schedules import schedule_rows
from app.store.schedules.decisions import Due
from workers import trigger

BATCH = 500
LANES = 2  # concurrent batches: one is decided while the other waits for Postgres
LONGEST = 10.0  # seconds that one dispatch may take; the next one continues
ASIDE = 60.0  # seconds until an undecidable schedule is tried again

_log = log.logger(__name__)


@dataclass(slots=True)
class Turn:
    """State of one process between dispatches; arq gives each cron job a new `ctx`.

    `busy`: a dispatch is under way. `aside`: schedules that could not be decided, until when.
    `page`: where the last sweep of organisations' runs stopped.
    """

    busy: bool = False
    aside: dict[str, float] = field(default_factory=dict[str, float])  # mark, monotonic deadline
    page: Page | None = None

    def put_aside(self, marks: list[str]) -> None:
        """Skip these schedules for a minute, so that they do not block the others."""
        self.aside |= dict.fromkeys(marks, time.monotonic() + ASIDE)

    def marks(self) -> list[str]:
        """The marks of the schedules skipped now."""
        now = time.monotonic()
        self.aside = {mark: until for mark, until in self.aside.items() if until > now}
        return list(self.aside)


async def dispatch(ctx: dict[str, Any]) -> None:
    """Decide schedules whose trigger did not fire, or which have none. Runs every second."""
    await decide(ctx, LONGEST)


async def decide(ctx: dict[str, Any], seconds: float) -> None:
    """Decide due built-in schedules, then organisations' schedules for at most `seconds`."""
    context = ctx_house(ctx)
    await _built_in(context, ctx)
    turn = turn_of(ctx)
    if turn.busy:  # the previous dispatch is still under way
        return
    turn.busy = True
    try:
        await _organisations(context, ctx, turn, time.monotonic() + seconds)
        await org_queue.admit(context.redis)
    finally:
        turn.busy = False


def turn_of(ctx: dict[str, Any]) -> Turn:
    """This worker's dispatch state, created at startup."""
    turn: Turn = ctx.setdefault("turn", Turn())
    return turn


async def _built_in(context: House, ctx: dict[str, Any]) -> None:
    for key in await schedule_rows.due(
        context.pool, context.clock(), jobs=trigger.known_jobs(ctx), head_start=trigger.HEAD_START
    ):
        try:
            await trigger.tell(context, await edit.ring(context.pool, key, context.clock()))
        except (RedisError, *AWAY):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback
            # One unreadable schedule must not keep the others from being decided.
            _log.exception("schedule.undecidable", schedule=key)


async def _organisations(context: House, ctx: dict[str, Any], turn: Turn, deadline: float) -> None:
    if await store.any_due(context.pool, _due_now(context, ctx, turn)):
        await together(_decide_batches(context, ctx, turn, deadline) for _ in range(LANES))


async def _decide_batches(context: House, ctx: dict[str, Any], turn: Turn, deadline: float) -> None:
    found = BATCH
    while found == BATCH and time.monotonic() < deadline:
        batch = await batches.decide_due(context.pool, _due_now(context, ctx, turn))
        found = batch.found
        turn.put_aside(batch.undecidable)
        await trigger.tell(context, batch.queued)
        await org_queue.admit(context.redis)


def _due_now(context: House, ctx: dict[str, Any], turn: Turn) -> Due:
    return Due(context.clock(), BATCH, trigger.known_jobs(ctx), turn.marks())
