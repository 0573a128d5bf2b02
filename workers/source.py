"""The task `source`: one run of a recipe in SOURCES_DIR, named by its schedule's key."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.config import Config
from app.errors import BadParameters
from app.recipes.model import Recipe
from app.recipes.source import RecipeSource
from app.resources import House, ctx_house
from app.runs import Outcome
from app.store import readings
from app.store.runs import Claimed
from app.words import RunStatus, Trigger
from workers import folder, recipes, spine
from workers.folder import PREFIX, Shelved
from workers.job import Job, Params, Part, Plan

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
    keeping = recipes.Keeping(org_id, {one.name: one for one in sources})
    return Job(
        name=folder.JOB,
        minutes=lambda config: config.scrape_interval_minutes,
        params=SourceParams,
        every_source=_no_sources,
        sources=lambda config, params: sources,  # noqa: ARG005 - the same for all parameters
        write=keeping.write,
        key=recipes.key,
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

    await spine.perform_as(ctx, JOB.name, body, run_id, params)


async def _execute(context: House, claimed: Claimed, outcome: Outcome) -> None:
    loaded = await asyncio.to_thread(folder.find, context.config, _source_name(claimed))
    recipe = loaded.usable()
    if await _too_early(context, recipe, claimed):
        outcome.status, outcome.stats = RunStatus.SUCCESS, dict(RESTING)
        return
    await _collect(context, loaded, recipe, claimed, outcome)


async def _collect(
    context: House, loaded: Shelved, recipe: Recipe, claimed: Claimed, outcome: Outcome
) -> None:
    opened = await recipes.ready(context, recipe, loaded.secret)
    await spine.scrape(context, Plan([Part(job_of(opened), opened)]), claimed, outcome)
    if recipe.schedule.auto and opened.paces and outcome.status is RunStatus.SUCCESS:
        seconds = min(opened.paces.values())
        at = context.clock() + timedelta(seconds=seconds)
        await readings.set_pace(context.pool, None, recipe.name, seconds, at)


async def _too_early(context: House, recipe: Recipe, claimed: Claimed) -> bool:
    """Whether the feed's own pace makes a scheduled run too early; manual runs ignore it."""
    if not recipe.schedule.auto or claimed.trigger != Trigger.SCHEDULED.value:
        return False
    next_at = await readings.next_at(context.pool, None, recipe.name)
    return next_at is not None and context.clock() < next_at - EARLY


def _source_name(claimed: Claimed) -> str:
    name = JOB.understood(claimed.params).model_dump().get("source")
    if isinstance(name, str):
        return name
    if claimed.schedule_key is None:
        raise BadParameters('source: missing; pass {"source": "NAME"}')
    return claimed.schedule_key.removeprefix(PREFIX)
