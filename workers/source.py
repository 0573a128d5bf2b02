"""The task `source`: one run of a recipe in SOURCES_DIR, named by its schedule's key."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.context import WorkerContext
from app.core.config import Config
from app.core.enums import RunStatus, Trigger
from app.core.errors import BadParameters
from app.runs.attempts import AttemptOutcome
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.content import cursors
from app.store.runs.run_rows import ClaimedRun
from workers import recipe_dir, recipe_sources
from workers.execute import RunCall, execute
from workers.job import Job, Params, PlannedSource, RunPlan
from workers.recipe_dir import KEY_PREFIX

PACE_TOLERANCE = timedelta(
    seconds=30
)  # a pace that ends this soon after a tick does not skip the tick
SKIPPED_STATS = {"resting": 1, "requests": 0}


class SourceParams(Params):
    """Parameters of a run. `source`: the recipe's name; the schedule's if not given."""

    source: str | None = None


def _no_sources(config: Config, params: Any = None) -> tuple[RecipeSource, ...]:
    del config, params
    return ()


def recipe_job(source: RecipeSource | None, org_id: UUID | None = None) -> Job:
    """The job that collects this one recipe, an organisation's or the operator's."""
    sources = () if source is None else (source,)
    keeping = recipe_sources.RecipeItemStorage(org_id, {one.name: one for one in sources})
    return Job(
        name=recipe_dir.JOB,
        settings="scrape",
        params=SourceParams,
        every_source=_no_sources,
        sources=lambda config, params: sources,  # noqa: ARG005 - the same for all parameters
        write=keeping.write,
        record_key=recipe_sources.item_key,
        records_stat="rows",
        never_empty=False,
        on_partition_done=keeping.on_partition_done,
        listing_tracker=keeping,
    )


JOB = recipe_job(None)


async def source(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Execute one run; without `run_id`, a manual run of the source that `params` name."""
    await execute(ctx, RunCall(JOB.name, run_id, params), plan_recipe)


async def plan_recipe(
    context: WorkerContext, claimed: ClaimedRun, outcome: AttemptOutcome
) -> RunPlan | None:
    """The recipe's source; None, with the outcome set, if its feed asks for a longer pause."""
    loaded = await asyncio.to_thread(recipe_dir.find_recipe, context.config, _source_name(claimed))
    recipe = loaded.usable()
    if await _too_early(context, recipe, claimed):
        outcome.status, outcome.stats = RunStatus.SUCCESS, dict(SKIPPED_STATS)
        return None
    opened = await recipe_sources.open_recipe_source(context, recipe, loaded.secret)

    async def set_interval(outcome: AttemptOutcome) -> None:
        if recipe.schedule.auto and opened.poll_intervals and outcome.status is RunStatus.SUCCESS:
            seconds = min(opened.poll_intervals.values())
            at = context.clock() + timedelta(seconds=seconds)
            await cursors.set_interval(context.pool, None, recipe.name, seconds, at)

    return RunPlan([PlannedSource(recipe_job(opened), opened)], on_collected=set_interval)


async def _too_early(context: WorkerContext, recipe: Recipe, claimed: ClaimedRun) -> bool:
    """Whether the feed's own pace makes a scheduled run too early; manual runs ignore it."""
    if not recipe.schedule.auto or claimed.trigger != Trigger.SCHEDULED.value:
        return False
    next_at = await cursors.next_due_at(context.pool, None, recipe.name)
    return next_at is not None and context.clock() < next_at - PACE_TOLERANCE


def _source_name(claimed: ClaimedRun) -> str:
    name = JOB.validate_params(claimed.params).model_dump().get("source")
    if isinstance(name, str):
        return name
    if claimed.schedule_key is None:
        raise BadParameters('source: missing; pass {"source": "NAME"}')
    return claimed.schedule_key.removeprefix(KEY_PREFIX)
