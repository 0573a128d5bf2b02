"""One of the operator's own sources, in one run: `source`. Which, its schedule's key says."""

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

EARLY = timedelta(seconds=30)  # an interval that ends just after a tick is not waited out
RESTING = {"resting": 1, "requests": 0}


class SourceParams(Params):
    """Which source to ask; that of the schedule, if not said."""

    source: str | None = None


def _nothing(config: Config, params: Any = None) -> tuple[RecipeSource, ...]:
    del config, params
    return ()


def job_of(source: RecipeSource | None, org_id: UUID | None = None) -> Job:
    """The job of asking this one source, of an organisation or of the house."""
    sources = () if source is None else (source,)
    keeping = recipes.Keeping(org_id, {one.name: one for one in sources})
    return Job(
        name=folder.JOB,
        minutes=lambda config: config.scrape_interval_minutes,
        params=SourceParams,
        every_source=_nothing,
        sources=lambda config, params: sources,  # noqa: ARG005 - whatever is asked for
        write=keeping.write,
        key=recipes.key,
        counted="rows",
        never_empty=False,
        turned=keeping.turned,
        presence=keeping,
    )


JOB = job_of(None)


async def source(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Ask one source; without a run id, as a manual run of the one that is named."""
    house = ctx_house(ctx)

    async def asked(claimed: Claimed, outcome: Outcome) -> None:
        await _asked(house, claimed, outcome)

    await spine.perform_as(ctx, JOB.name, asked, run_id, params)


async def _asked(house: House, claimed: Claimed, outcome: Outcome) -> None:
    shelved = await asyncio.to_thread(folder.find, house.config, _named(claimed))
    recipe = shelved.usable()
    if await _rests(house, recipe, claimed):
        outcome.status, outcome.stats = RunStatus.SUCCESS, dict(RESTING)
        return
    await _scraped(house, shelved, recipe, claimed, outcome)


async def _scraped(
    house: House, shelved: Shelved, recipe: Recipe, claimed: Claimed, outcome: Outcome
) -> None:
    asked = await recipes.ready(house, recipe, shelved.secret)
    await spine.scrape(house, Plan([Part(job_of(asked), asked)]), claimed, outcome)
    if recipe.schedule.auto and asked.paces and outcome.status is RunStatus.SUCCESS:
        seconds = min(asked.paces.values())
        at = house.clock() + timedelta(seconds=seconds)
        await readings.set_pace(house.pool, None, recipe.name, seconds, at)


async def _rests(house: House, recipe: Recipe, claimed: Claimed) -> bool:
    """Whether a feed has told us that it is too early; somebody who asks by hand is not told."""
    if not recipe.schedule.auto or claimed.trigger != Trigger.SCHEDULED.value:
        return False
    wanted = await readings.next_at(house.pool, None, recipe.name)
    return wanted is not None and house.clock() < wanted - EARLY


def _named(claimed: Claimed) -> str:
    name = JOB.understood(claimed.params).model_dump().get("source")
    if isinstance(name, str):
        return name
    if claimed.schedule_key is None:
        raise BadParameters('source: which one? ask with {"source": "its name"}')
    return claimed.schedule_key.removeprefix(PREFIX)
