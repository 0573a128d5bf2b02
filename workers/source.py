"""The job `source`: one run of a recipe in SOURCES_DIR, named by its schedule's key."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.context import WorkerContext
from app.core.config import Config
from app.core.enums import RunStatus, Trigger
from app.core.errors import BadParameters
from app.health import keys
from app.ledger.edit import DeclaredSchedule
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.content import cursors
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.run_rows import recipe_of
from workers import recipe_dir, recipe_sources
from workers.job import job
from workers.recipe_dir import KEY_PREFIX
from workers.recipe_sources import RecipeItemStorage
from workers.run import Run

PACE_TOLERANCE = timedelta(
    seconds=30
)  # a pace that ends this soon after a tick does not skip the tick
SKIPPED_STATS = {"resting": 1, "requests": 0}


def item_storage(source: RecipeSource | None) -> RecipeItemStorage:
    """How the items of this one recipe of the operator are stored."""
    return RecipeItemStorage(None, {} if source is None else {source.name: source})


def _schedules(config: Config, name: str) -> Sequence[DeclaredSchedule]:
    del name
    return [recipe_dir.declare_schedule(config, one) for one in recipe_dir.load_recipes(config)]


@job(name=recipe_dir.JOB, schedules=_schedules)
async def collect_recipe(run: Run, *, source: str | None = None) -> dict[str, int] | None:
    """Collect the recipe named `source`, or the schedule's if not given.

    Returns at once if its feed asks for a longer pause.
    """
    context, claimed = run.context, run.claimed
    name = source or _source_name(claimed)
    loaded = await asyncio.to_thread(recipe_dir.find_recipe, run.config, name)
    recipe = loaded.usable()
    if await _too_early(context, recipe, claimed):
        return SKIPPED_STATS
    opened = await recipe_sources.open_recipe_source(context, recipe, loaded.secret)
    await run.collect([opened], item_storage(opened))
    succeeded = run.outcome.status is RunStatus.SUCCESS
    if recipe.schedule.auto and opened.poll_intervals and succeeded:
        seconds = min(opened.poll_intervals.values())
        at = context.clock() + timedelta(seconds=seconds)
        await cursors.set_interval(context.pool, None, recipe.name, seconds, at)
    return None


async def is_left_to_others(
    context: WorkerContext, run_id: UUID | None, params: Mapping[str, Any]
) -> bool:
    """Whether only another live worker has the recipe of this run, as during a deployment.

    A worker that has read it at its start executes the run, which fails if the file is gone: two
    such workers would leave it to each other for ever. Raises RedisError if that cannot be known.
    """
    name = params.get("source") if run_id is None else await recipe_of(context.pool, run_id)
    if name is None or recipe_dir.find_file(context.config, str(name)) is not None:
        return False
    return KEY_PREFIX + str(name) in await keys.declared_elsewhere(context.redis, context.worker)


async def _too_early(context: WorkerContext, recipe: Recipe, claimed: ClaimedRun) -> bool:
    """Whether the feed's own pace makes a scheduled run too early; manual runs ignore it."""
    if not recipe.schedule.auto or claimed.trigger != Trigger.SCHEDULED.value:
        return False
    next_at = await cursors.next_due_at(context.pool, None, recipe.name)
    return next_at is not None and context.clock() < next_at - PACE_TOLERANCE


def _source_name(claimed: ClaimedRun) -> str:
    if claimed.schedule_key is None:
        raise BadParameters('source: missing; pass {"source": "NAME"}')
    return claimed.schedule_key.removeprefix(KEY_PREFIX)
