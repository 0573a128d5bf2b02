"""The task `source`: one run of a recipe in SOURCES_DIR, named by its schedule's key."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.context import House, ctx_house
from app.core.config import Config
from app.core.enums import RunStatus, Trigger
from app.core.errors import BadParameters
from app.runs.attempts import Outcome
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.content import cursors
from app.store.runs.run_rows import Claimed
from workers import execute, recipe_dir, recipe_sources
from workers.job import Job, Params, Part, Plan
from workers.recipe_dir import PREFIX, Shelved

EARLY = timedelta(seconds=30)  # a pace that ends this soon after a tick does not skip the tick
RESTING = {"resting": 1, "requests": 0}


class SourceParams(Params):
    """Parameters of a run. `source`: the recipe's name; the schedule's if not given."""

    source: str | None = None


def _no_sources(config: Config, params: Any = None) -> tuple[RecipeSource, ...]:
    del config, params
    return ()


def job_of(source: RecipeSource | None, org_id: UUID | None = None) -> Job:
    """The job that collects this one recipe, an organisation's or the operator's."""
    sources = () if source is None else (source,)
    keeping = recipe_sources.Keeping(org_id, {one.name: one for one in sources})
    return Job(
        name=recipe_dir.JOB,
        minutes=lambda config: config.scrape_interval_minutes,
        params=SourceParams,
        every_source=_no_sources,
        sources=lambda config, params: sources,  # noqa: ARG005 - the same for all parameters
        write=keeping.write,
        key=recipe_sources.key,
        counted="rows",
        never_empty=False,
        turned=keeping.turned,
        presence=keeping,
    )


JOB = job_of(None)


async def source(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Execute one run; without `run_id`, a manual run of the source that `params` name."""
    context = ctx_house(ctx)

    async def body(claimed: Claimed, outcome: Outcome) -> None:
        await _execute(context, claimed, outcome)

    await execute.perform_as(ctx, JOB.name, body, run_id, params)


async def _execute(context: House, claimed: Claimed, outcome: Outcome) -> None:
    loaded = await asyncio.to_thread(recipe_dir.find, context.config, _source_name(claimed))
    recipe = loaded.usable()
    if await _too_early(context, recipe, claimed):
        outcome.status, outcome.stats = RunStatus.SUCCESS, dict(RESTING)
        return
    await _collect(context, loaded, recipe, claimed, outcome)


async def _collect(
    context: House, loaded: Shelved, recipe: Recipe, claimed: Claimed, outcome: Outcome
) -> None:
    opened = await recipe_sources.ready(context, recipe, loaded.secret)
    await execute.scrape(context, Plan([Part(job_of(opened), opened)]), claimed, outcome)
    if recipe.schedule.auto and opened.paces and outcome.status is RunStatus.SUCCESS:
        seconds = min(opened.paces.values())
        at = context.clock() + timedelta(seconds=seconds)
        await cursors.set_pace(context.pool, None, recipe.name, seconds, at)


async def _too_early(context: House, recipe: Recipe, claimed: Claimed) -> bool:
    """Whether the feed's own pace makes a scheduled run too early; manual runs ignore it."""
    if not recipe.schedule.auto or claimed.trigger != Trigger.SCHEDULED.value:
        return False
    next_at = await cursors.next_at(context.pool, None, recipe.name)
    return next_at is not None and context.clock() < next_at - EARLY


def _source_name(claimed: Claimed) -> str:
    name = JOB.understood(claimed.params).model_dump().get("source")
    if isinstance(name, str):
        return name
    if claimed.schedule_key is None:
        raise BadParameters('source: missing; pass {"source": "NAME"}')
    return claimed.schedule_key.removeprefix(PREFIX)
