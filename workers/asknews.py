"""What the AskNews jobs share: credentials, tracked entities, cursors and stats."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from app.context import WorkerContext
from app.core.config import Config
from app.core.errors import Auth
from app.core.records import Article, Record, Story
from app.core.setting_types import MAX_ENTITY_LENGTH
from app.fetch.authenticated import BearerCredential, Login
from app.fetch.tokens import ClientCredentials
from app.sources.sites.asknews import AskNewsNews, AskNewsStories
from app.store.content import news
from app.store.db import Connection
from app.store.runs.progress import SourceProgress
from workers.job import Params
from workers.source_group import CompletedPartition, SourceGroup

HOUR = timedelta(hours=1)
SCOPE = "offline openid news stories"
MISSING_LOGIN = "neither ASKNEWS_API_KEY nor ASKNEWS_CLIENT_ID and ASKNEWS_CLIENT_SECRET are set"

AskNews = TypeVar("AskNews", AskNewsNews, AskNewsStories)


def _validate_entities(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    entities = tuple(dict.fromkeys(name.strip() for name in value or ()))
    if value is not None and not entities:
        raise ValueError("name at least one")
    if any(not 0 < len(name) <= MAX_ENTITY_LENGTH for name in entities):
        raise ValueError(f"a name must have 1 to {MAX_ENTITY_LENGTH} characters")
    return entities or None


Entities = Annotated[tuple[str, ...] | None, AfterValidator(_validate_entities)]


class PollParams(Params):
    """Parameters of a poll. `entities`: those to poll; all TRACKED_ENTITIES if not given."""

    entities: Entities = None


def login(config: Config) -> Login | None:
    """Credentials for AskNews: the API key, else the client credentials; None if neither is set."""
    key, client_id, secret = (
        config.asknews_api_key,
        config.asknews_client_id,
        config.asknews_client_secret,
    )
    if key is not None:
        return BearerCredential(key, "ASKNEWS_API_KEY")
    if client_id is None or secret is None:
        return None
    setting = "ASKNEWS_CLIENT_ID with ASKNEWS_CLIENT_SECRET"
    return ClientCredentials(config.asknews_token_url, client_id, secret, SCOPE, setting)


def disabled_reason(config: Config) -> str | None:
    """Why the settings disable the AskNews jobs, or None if they do not."""
    if login(config) is None:
        return MISSING_LOGIN
    return None if config.tracked_entities else "TRACKED_ENTITIES is not set"


def polled_entities(config: Config, entities: tuple[str, ...] | None) -> tuple[str, ...]:
    """The entities that a run polls. Raises Auth if credentials are missing."""
    if login(config) is None:
        raise Auth(f"{MISSING_LOGIN}: AskNews cannot be polled")
    return entities or config.tracked_entities


async def with_cursors(context: WorkerContext, source: AskNews, reader: str) -> AskNews:
    """The source with the instant since which to read each of its entities.

    That is the cursor of `reader` less the overlap, but at most ASKNEWS_LOOKBACK_HOURS ago.
    What lies between a cursor and the lookback is requested with `historical` where that is allowed
    and the source has it, and is a gap otherwise.
    """
    config, now = context.config, context.clock()
    oldest = now - timedelta(hours=config.asknews_lookback_hours)
    overlap = timedelta(minutes=config.asknews_overlap_minutes)
    read = await news.cursors(context.pool, reader, source.entities)
    late = {name: read[name] for name in source.entities if read.get(name, oldest) < oldest}
    since = {name: max(oldest, read.get(name, oldest) - overlap) for name in source.entities}
    if isinstance(source, AskNewsNews) and config.asknews_historical:
        hours = {name: math.ceil((now - at + overlap) / HOUR) for name, at in late.items()}
        since |= {name: at - overlap for name, at in late.items()}
        return replace(source, since=since, historical=hours)
    return replace(source, since=since, gaps={name: (at, oldest) for name, at in late.items()})


class AskNewsGroup(SourceGroup):
    """What the groups of news and stories share."""

    has_cursors = True

    def login(self, config: Config) -> Login | None:
        return login(config)

    def record_key(self, record: Record) -> str:
        """The key of an article or a story."""
        match record:
            case Article():
                return record.article_id
            case Story():
                return record.story_uuid
            case _:
                return ""

    async def on_partition_done(self, connection: Connection, done: CompletedPartition) -> None:
        """Move the entity's cursor to when its first page was requested."""
        partition_key = (done.source, done.partition)
        await news.move_cursor(connection, partition_key, done.started_at, done.run_id)


def poll_stats(row: SourceProgress) -> dict[str, int]:
    """The stats that both AskNews jobs share: entities read completely or not, and pages."""
    return {
        "entities_processed": len(set(row.done) - row.errors.keys()),
        "entities_failed": len(row.errors),
        "requests": row.requests,
        "pages": row.counts.pages,
        "changed": row.counts.changed,
        "unchanged": row.counts.unchanged,
        "rejected": row.counts.rejected,
    }
