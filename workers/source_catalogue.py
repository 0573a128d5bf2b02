"""The sources that an organisation may select, and the validation of a selection."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, ValidationError

from app.context import WorkerContext
from app.core.errors import Auth, Failure, Incomplete
from app.core.setting_types import PLATFORMS
from app.core.validation import fault_sentence
from app.sources.base import Source
from app.sources.sites.asknews import NEWS, STORIES
from app.store.db import Connection, Pool
from workers import asknews, news, odds, org_recipes, stories
from workers.asknews import PollParams
from workers.catalogue_entry import NoParams, SelectableSource, UnavailableSource
from workers.item_storage import OrgItemStorage, cursor_owner
from workers.job import Params
from workers.source_group import PlannedSource, SourceGroup

MAX_ENTITIES = 50  # per source of a preset

Fault = tuple[str, str]  # field and message
OpenSource = Callable[[WorkerContext, UUID, Any], Awaitable[Source]]


class EntityParams(PollParams):
    """Parameters of an AskNews source. `entities`: TRACKED_ENTITIES if not given."""

    entities: Annotated[
        tuple[str, ...] | None,
        Field(max_length=MAX_ENTITIES),
        *PollParams.model_fields["entities"].metadata,
    ] = None


@dataclass(frozen=True, slots=True)
class BuiltInSource:
    """A built-in source. `params`: the model of its parameters. `group`: how it is collected."""

    group: SourceGroup
    params: type[Params]
    open_source: OpenSource

    async def part(
        self, context: WorkerContext, org_id: UUID, choice: Mapping[str, Any], /
    ) -> PlannedSource:
        """The source as this organisation selected it, its records stored as items.

        If it cannot be opened, the returned source raises the failure when it is collected.
        """
        name = choice["source"]
        params = self.params.model_validate(choice.get("params") or {})
        try:
            source = await self.open_source(context, org_id, params)
        except Failure as failure:
            source = UnavailableSource(name, failure)
        return PlannedSource(OrgItemStorage(self.group, org_id, name), source)


def _open_platform(name: str) -> OpenSource:
    async def opened(context: WorkerContext, org_id: UUID, params: NoParams) -> Source:
        del org_id, params
        return next(s for s in odds.every_source(context.config) if s.name == name)

    return opened


async def _open_news(context: WorkerContext, org_id: UUID, params: PollParams) -> Source:
    _require_permission(context)
    source = news.source(context.config, params.entities)
    _require_entities(source.entities)
    return await asknews.with_cursors(context, source, cursor_owner(org_id, NEWS))


async def _open_stories(context: WorkerContext, org_id: UUID, params: PollParams) -> Source:
    _require_permission(context)
    source = stories.source(context.config, params.entities)
    _require_entities(source.entities)
    return await asknews.with_cursors(context, source, cursor_owner(org_id, STORIES))


def _require_permission(context: WorkerContext) -> None:
    if not context.config.org_asknews:
        raise Auth(
            "organisations may not use the operator's AskNews account (setting ORG_ASKNEWS)",
            retry=False,
        )


def _require_entities(entities: Sequence[str]) -> None:
    if not entities:
        raise Incomplete("no entities to poll: neither the preset nor TRACKED_ENTITIES names any")


SOURCES: Mapping[str, SelectableSource] = {
    **{name: BuiltInSource(odds.GROUP, NoParams, _open_platform(name)) for name in PLATFORMS},
    NEWS: BuiltInSource(news.GROUP, EntityParams, _open_news),
    STORIES: BuiltInSource(stories.GROUP, EntityParams, _open_stories),
}
"""The sources that every organisation may select."""


async def selectable_sources(
    connection: Pool | Connection, org_id: UUID
) -> Mapping[str, SelectableSource]:
    """The sources this organisation may select: built-in ones, and its own as `recipe:<name>`."""
    return {**SOURCES, **await org_recipes.selectable_recipes(connection, org_id)}


async def plan_source(
    offers: Mapping[str, SelectableSource],
    context: WorkerContext,
    org_id: UUID,
    choice: Mapping[str, Any],
) -> PlannedSource:
    """The selected source as part of a run; a recipe removed meanwhile fails when collected."""
    name = choice["source"]
    return await (offers.get(name) or org_recipes.recipe_named(name)).part(context, org_id, choice)


def check_selection(
    sources: Sequence[Mapping[str, Any]], offers: Mapping[str, SelectableSource] = SOURCES
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


def _check_one(
    at: str, choice: Mapping[str, Any], offers: Mapping[str, SelectableSource]
) -> list[Fault]:
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
            faults.append((field, fault_sentence(fault)))
    return faults
