"""What is remembered of the ticks is always what reading all of them anew would say."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from app.core.enums import RunStatus, TickReason
from app.store.reports.overview import TickSummary
from app.web.dashboard.jobs_table import read_board
from app.web.dashboard.tick_cache import TickCache
from app.web.dashboard.tick_slots import SHOWN_TICKS
from tests.dashboard.fixtures import GOOD, STEP, Scene

PATIENCE = timedelta(seconds=15)


async def seen(scene: Scene, memory: TickCache) -> dict[int, list[TickSummary]]:
    result = await read_board(scene.pool, PATIENCE, memory)
    assert result is not None
    return dict(result.lines.ticks)


async def a_tick_more(scene: Scene, schedule_id: int) -> None:
    await scene.tick(schedule_id, "a", scene.now + STEP, TickReason.OVERLAP)
    await scene.tick(schedule_id, "a", scene.now + STEP * 2, GOOD)


async def an_end_of_the_open_run(scene: Scene, _: int) -> None:
    await scene.pool.execute(
        "UPDATE runs SET status = 'failure', completed_at = now(), duration_seconds = 7"
        " WHERE status = 'running'"
    )


async def ticks_become_one_row(scene: Scene, schedule_id: int) -> None:
    await scene.pool.execute("DELETE FROM ticks WHERE outcome = 'missed'")
    await scene.gap(schedule_id, STEP * 3, 3)


async def an_edit_takes_ticks_back(scene: Scene, _: int) -> None:
    await scene.pool.execute("DELETE FROM ticks WHERE scheduled_for = $1", scene.now)
    await scene.pool.execute("UPDATE schedules SET version = version + 1")


async def another_schedule(scene: Scene, _: int) -> None:
    await scene.job(f"b{uuid4().hex[:4]}", [GOOD] * 4)


async def a_schedule_less(scene: Scene, schedule_id: int) -> None:
    await scene.pool.execute("DELETE FROM ticks WHERE schedule_id = $1", schedule_id)
    await scene.pool.execute("DELETE FROM runs WHERE schedule_id = $1", schedule_id)
    await scene.pool.execute("DELETE FROM schedules WHERE id = $1", schedule_id)


async def nothing(_: Scene, __: int) -> None:
    return None


@pytest.mark.parametrize(
    "change",
    [
        nothing,
        a_tick_more,
        an_end_of_the_open_run,
        ticks_become_one_row,
        an_edit_takes_ticks_back,
        another_schedule,
        a_schedule_less,
    ],
    ids=lambda change: change.__name__,
)
async def test_after_any_change_it_says_what_a_fresh_reading_says(
    scene: Scene, change: Callable[[Scene, int], Awaitable[None]]
) -> None:
    missed = [TickReason.SCHEDULER_DOWN] * 3
    schedule_id = await scene.job("a", [*[GOOD] * 70, *missed, RunStatus.RUNNING, GOOD, GOOD])
    await scene.job("c", [GOOD] * 5)
    memory = TickCache(SHOWN_TICKS)
    await seen(scene, memory)

    await change(scene, schedule_id)
    remembered = await seen(scene, memory)

    assert remembered == await seen(scene, TickCache(SHOWN_TICKS))
    assert all(len(ticks) <= SHOWN_TICKS for ticks in remembered.values())


async def test_what_is_known_is_not_asked_for_again(scene: Scene) -> None:
    await scene.job("a", [GOOD] * 20)
    memory = TickCache(SHOWN_TICKS)
    result = await read_board(scene.pool, PATIENCE, memory)
    assert result is not None

    after = memory.read_after(result.lines.schedules)

    assert list(after.values()) == [scene.now]
