"""The sources that an organisation may choose from, and what it may ask each of them for."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, ValidationError

from app.config import PLATFORMS
from app.errors import Failure, Incomplete
from app.resources import House
from app.sources.asknews import NEWS, STORIES
from app.sources.base import Source
from app.store.db import Connection, Pool
from workers import asknews, news, odds, own, stories
from workers.asknews import PollParams
from workers.job import Job, Params, Part
from workers.offer import Closed, Nothing, Offered
from workers.shelves import reader, shelved

MOST_ENTITIES = 50  # of one source of a preset

Fault = tuple[str, str]  # the field, and what is wrong with it
Open = Callable[[House, UUID, Any], Awaitable[Source]]


class Entities(PollParams):
    """Which entities to read about; those that the settings track, if not said."""

    entities: Annotated[
        tuple[str, ...] | None,
        Field(max_length=MOST_ENTITIES),
        *PollParams.model_fields["entities"].metadata,
    ] = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A source that may be chosen. `params`: what it may be asked for. `job`: how it is read."""

    job: Job
    params: type[Params]
    open: Open

    async def part(self, house: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """The source as this organisation has chosen it, its records kept as items.

        A source that cannot be opened now fails by itself, when it is asked.
        """
        name = choice["source"]
        params = self.params.model_validate(choice.get("params") or {})
        try:
            source = await self.open(house, org_id, params)
        except Failure as failure:
            source = Closed(name, failure)
        return Part(shelved(self.job, org_id, name), source)


def _platform(name: str) -> Open:
    async def opened(house: House, org_id: UUID, params: Nothing) -> Source:
        del org_id, params
        return next(s for s in odds.every_source(house.config) if s.name == name)

    return opened


async def _news(house: House, org_id: UUID, params: PollParams) -> Source:
    (source,) = news.sources(house.config, params)
    _asked_for(source.entities)
    return await asknews.read_on(house, source, reader(org_id, NEWS))


async def _stories(house: House, org_id: UUID, params: PollParams) -> Source:
    (source,) = stories.sources(house.config, params)
    _asked_for(source.entities)
    return await asknews.read_on(house, source, reader(org_id, STORIES))


def _asked_for(entities: Sequence[str]) -> None:
    if not entities:
        raise Incomplete("nothing to ask for: neither the preset nor TRACKED_ENTITIES names any")


SOURCES: Mapping[str, Offered] = {
    **{name: Offer(odds.JOB, Nothing, _platform(name)) for name in PLATFORMS},
    NEWS: Offer(news.JOB, Entities, _news),
    STORIES: Offer(stories.JOB, Entities, _stories),
}
"""What every organisation may choose."""


async def offered(connection: Pool | Connection, org_id: UUID) -> Mapping[str, Offered]:
    """What this organisation may choose: the built-in sources, and its own as `recipe:<name>`."""
    return {**SOURCES, **await own.offered(connection, org_id)}


async def part(
    offers: Mapping[str, Offered], house: House, org_id: UUID, choice: Mapping[str, Any]
) -> Part:
    """What was chosen when the run began; an own recipe may be gone since, and then says so."""
    name = choice["source"]
    return await (offers.get(name) or own.named(name)).part(house, org_id, choice)


def check(
    sources: Sequence[Mapping[str, Any]], offers: Mapping[str, Offered] = SOURCES
) -> list[Fault]:
    """What is wrong with a preset's sources, each fault with its field; nothing if it can run."""
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
        (f"{at}.{name}", "is no part of a source: source, params")
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
