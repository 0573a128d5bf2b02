"""What the two AskNews jobs share: who we are, what is tracked, and up to when it has been read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from app.config import LONGEST_ENTITY, Config
from app.errors import Auth
from app.fetch.auth import ApiKey, ClientCredentials, Login
from app.records import Article, Record, Story
from app.resources import House
from app.sources.asknews import AskNewsNews, AskNewsStories
from app.sources.base import Source
from app.store import news
from app.store.db import Connection
from app.store.progress import SourceRow
from workers.job import Params, Turned

SCOPE = "offline openid news stories"

AskNews = TypeVar("AskNews", AskNewsNews, AskNewsStories)


def _named(entities: tuple[str, ...] | None) -> tuple[str, ...] | None:
    named = tuple(dict.fromkeys(name.strip() for name in entities or ()))
    if entities is not None and not named:
        raise ValueError("name at least one")
    if any(not 0 < len(name) <= LONGEST_ENTITY for name in named):
        raise ValueError(f"a name has from 1 to {LONGEST_ENTITY} characters")
    return named or None


class PollParams(Params):
    """Which entities to poll for; all that the settings track, if not said."""

    entities: Annotated[tuple[str, ...] | None, AfterValidator(_named)] = None


def login(config: Config) -> Login | None:
    """Who we are to AskNews. The key goes before the client credentials."""
    key, client_id, secret = (
        config.asknews_api_key,
        config.asknews_client_id,
        config.asknews_client_secret,
    )
    if key is not None:
        return ApiKey(key, "ASKNEWS_API_KEY")
    if client_id is None or secret is None:
        return None
    names = "ASKNEWS_CLIENT_ID with ASKNEWS_CLIENT_SECRET"
    return ClientCredentials(config.asknews_token_url, client_id, secret, SCOPE, names)


def off(config: Config) -> str | None:
    """Why there is nothing to poll, if there is not."""
    if login(config) is None:
        return _unknown(config)
    return None if config.tracked_entities else "TRACKED_ENTITIES is not set"


def _unknown(config: Config) -> str:
    if config.asknews_client_id is not None:
        return "ASKNEWS_CLIENT_SECRET is not set"
    if config.asknews_client_secret is not None:
        return "ASKNEWS_CLIENT_ID is not set"
    return "neither ASKNEWS_API_KEY nor ASKNEWS_CLIENT_ID and ASKNEWS_CLIENT_SECRET are set"


def tracked(config: Config, params: PollParams) -> tuple[str, ...]:
    """What a run polls for. Raises Auth if we are nobody to AskNews."""
    if login(config) is None:
        raise Auth(f"{_unknown(config)}: AskNews cannot be asked")
    return params.entities or config.tracked_entities


async def prepare(house: House, sources: Sequence[AskNews]) -> Sequence[Source]:
    """Tell each source up to when its entities have been read, less the overlap.

    What was never read, or not for long, is read from as far back as the settings say.
    """
    return [await _prepared(house, source) for source in sources]


async def _prepared(house: House, source: AskNews) -> AskNews:
    return await read_on(house, source, source.name)


async def read_on(house: House, source: AskNews, reader: str) -> AskNews:
    """The source, told up to when `reader` has read each of its entities, less the overlap."""
    config = house.config
    oldest = house.clock() - timedelta(hours=config.asknews_lookback_hours)
    overlap = timedelta(minutes=config.asknews_overlap_minutes)
    read = await news.cursors(house.pool, reader, source.entities)
    since = {name: max(oldest, read.get(name, oldest) - overlap) for name in source.entities}
    return replace(source, since=since)


async def turned(connection: Connection, partition: Turned) -> None:
    """The entity has been read up to when its first page came."""
    where = (partition.source, partition.partition)
    await news.move_cursor(connection, where, partition.begun, partition.run_id)


def key(record: Record) -> str:
    """What tells a record of AskNews from another."""
    match record:
        case Article():
            return record.article_id
        case Story():
            return record.story_uuid
        case _:
            return ""


def entities(row: SourceRow) -> dict[str, int]:
    """How many entities were read to their end, and how many were not."""
    return {
        "entities_processed": len(set(row.done) - row.errors.keys()),
        "entities_failed": len(row.errors),
        "requests": row.requests,
        "pages": row.counts.pages,
        "changed": row.counts.changed,
        "unchanged": row.counts.unchanged,
        "rejected": row.counts.rejected,
    }
