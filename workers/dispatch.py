"""Every second: what is due and has not been decided is decided, and what waits in line goes on."""

import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from app import backlog, batches, ledger, log
from app.resources import House, ctx_house
from app.store import batches as store
from app.store import schedules
from app.store.batches import Due
from app.store.db import AWAY
from app.store.runs import Page
from workers import ring
from workers.together import together

BATCH = 500
LANES = 2  # one decides while the other waits for Postgres
LONGEST = 10.0  # seconds; the next second goes on
ASIDE = 60.0  # seconds after which what could not be read is tried again

_log = log.logger(__name__)


@dataclass(slots=True)
class Turn:
    """What one process remembers from one second to the next; arq gives each alarm a new `ctx`.

    `page`: how far its last sweep looked through the runs that wait in line.
    """

    busy: bool = False
    aside: dict[str, float] = field(default_factory=dict[str, float])  # mark, until when
    page: Page | None = None

    def put_aside(self, marks: list[str]) -> None:
        """What cannot be decided must not be found again ahead of all others."""
        self.aside |= dict.fromkeys(marks, time.monotonic() + ASIDE)

    def marks(self) -> list[str]:
        """What is put aside now."""
        now = time.monotonic()
        self.aside = {mark: until for mark, until in self.aside.items() if until > now}
        return list(self.aside)


async def dispatch(ctx: dict[str, Any]) -> None:
    """Every second: decide schedules whose alarm did not ring, or which have none."""
    await decide(ctx, LONGEST)


async def decide(ctx: dict[str, Any], seconds: float) -> None:
    """Decide what is due: the built-in schedules, then for `seconds` at most the organisations'."""
    house = ctx_house(ctx)
    await _built_in(house, ctx)
    turn = turn_of(ctx)
    if turn.busy:  # the last second's goes on, and nothing is gained by two
        return
    turn.busy = True
    try:
        await _organisations(house, ctx, turn, time.monotonic() + seconds)
        await backlog.admit(house.redis)
    finally:
        turn.busy = False


def turn_of(ctx: dict[str, Any]) -> Turn:
    """This worker's; `on_startup` has put it there."""
    turn: Turn = ctx.setdefault("turn", Turn())
    return turn


async def _built_in(house: House, ctx: dict[str, Any]) -> None:
    for key in await schedules.due(
        house.pool, house.clock(), jobs=ring.known_jobs(ctx), head_start=ring.HEAD_START
    ):
        try:
            await ring.tell(house, await ledger.ring(house.pool, key, house.clock()))
        except (RedisError, *AWAY):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback
            # One schedule that cannot be read must not keep the others from being decided.
            _log.exception("schedule.undecidable", schedule=key)


async def _organisations(house: House, ctx: dict[str, Any], turn: Turn, end: float) -> None:
    if await store.any_due(house.pool, _due(house, ctx, turn)):
        await together(_lane(house, ctx, turn, end) for _ in range(LANES))


async def _lane(house: House, ctx: dict[str, Any], turn: Turn, end: float) -> None:
    found = BATCH
    while found == BATCH and time.monotonic() < end:
        batch = await batches.decide_due(house.pool, _due(house, ctx, turn))
        found = batch.found
        turn.put_aside(batch.undecidable)
        await ring.tell(house, batch.queued)
        await backlog.admit(house.redis)


def _due(house: House, ctx: dict[str, Any], turn: Turn) -> Due:
    return Due(house.clock(), BATCH, ring.known_jobs(ctx), turn.marks())
