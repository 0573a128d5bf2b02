"""The sources that an organisation may select, and the validation of a selection."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, ValidationError

from app.context import House
from app.core.config import PLATFORMS
from app.core.errors import Failure, Incomplete
from app.sources.base import Source
from app.sources.sites.asknews import NEWS, STORIES
from app.store.db import Connection, Pool
from workers import asknews, news, odds, org_recipes, stories
from workers.asknews import PollParams
from workers.catalogue_entry import Closed, Nothing, Offered
from workers.item_storage import reader, shelved
from workers.job import Job, Params, Part

MOST_ENTITIES = 50  # per source of a preset

Fault = tuple[str, str]  # field and message
Open = Callable[[House, UUID, Any], Awaitable[Source]]


class Entities(PollParams):
    """Parameters of an AskNews source. `entities`: TRACKED_ENTITIES if not given."""

    entities: Annotated[
        tuple[str, ...] | None,
        Field(max_length=MOST_ENTITIES),
        *PollParams.model_fields["entities"].metadata,
    ] = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A built-in source. `params`: the model of its parameters. `job`: how it is collected."""

    job: Job
    params: type[Params]
    open: Open

    async def part(self, context: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """The source as this organisation selected it, its records stored as items.

        If it cannot be opened, the returned source raises the failure when it is collected.
        """
        name = choice["source"]
        params = self.params.model_validate(choice.get("params") or {})
        try:
            source = await self.open(context, org_id, params)
        except Failure as failure:
            source = Closed(name, failure)
        return Part(shelved(self.job, org_id, name), source)


def _open_platform(name: str) -> Open:
    async def opened(context: House, org_id: UUID, params: Nothing) -> Source:
        del org_id, params
        return next(s for s in odds.every_source(context.config) if s.name == name)

    return opened


async def _open_news(context: House, org_id: UUID, params: PollParams) -> Source:
    (source,) = news.sources(context.config, params)
    _require_entities(source.entities)
    return await asknews.read_on(context, source, reader(org_id, NEWS))


async def _open_stories(context: House, org_id: UUID, params: PollParams) -> Source:
    (source,) = stories.sources(context.config, params)
    _require_entities(source.entities)
    return await asknews.read_on(context, source, reader(org_id, STORIES))


def _require_entities(entities: Sequence[str]) -> None:
    if not entities:
        raise Incomplete("no entities to poll: neither the preset nor TRACKED_ENTITIES names any")


SOURCES: Mapping[str, Offered] = {
    **{name: Offer(odds.JOB, Nothing, _open_platform(name)) for name in PLATFORMS},
    NEWS: Offer(news.JOB, Entities, _open_news),
    STORIES: Offer(stories.JOB, Entities, _open_stories),
}
"""The sources that every organisation may select."""


async def offered(connection: Pool | Connection, org_id: UUID) -> Mapping[str, Offered]:
    """The sources this organisation may select: built-in ones, and its own as `recipe:<name>`."""
    return {**SOURCES, **await org_recipes.offered(connection, org_id)}


async def part(
    offers: Mapping[str, Offered], context: House, org_id: UUID, choice: Mapping[str, Any]
) -> Part:
    """The selected source as part of a run; a recipe removed meanwhile fails when collected."""
    name = choice["source"]
    return await (offers.get(name) or org_recipes.named(name)).part(context, org_id, choice)


def check(
    sources: Sequence[Mapping[str, Any]], offers: Mapping[str, Offered] = SOURCES
) -> list[Fault]:
    """The faults of a preset's sources, each with its field; empty if it can run."""
    if not sources:
        return [("sources", "name at least one source")]
    faults: list[Fault] = []
    named: set[Any] = set()
    for number, choice in enumerate(sources):
        at = f"sources.{number}"
        faults += _check_one(at, choice, offers)
        name = choice.get("source")
        if isinstance(name, str) and name in named:
            faults.append((f"{at}.source", f"{name} is chosen twice"))
        named.add(str(name))
    return faults


def _check_one(at: str, choice: Mapping[str, Any], offers: Mapping[str, Offered]) -> list[Fault]:
    faults = [
        (f"{at}.{name}", "unknown field; known: source, params")
        for name in sorted(set(choice) - {"source", "params"})
    ]
    name, params = choice.get("source"), choice.get("params")
    offer = offers.get(name) if isinstance(name, str) else None
    if offer is None:
        return [*faults, (f"{at}.source", f"unknown source {name!r}; known: {', '.join(offers)}")]
    try:
        offer.params.model_validate({} if params is None else params)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            field = ".".join(map(str, (at, "params", *fault["loc"])))
            faults.append((field, fault["msg"].removeprefix("Value error, ")))
    return faults
