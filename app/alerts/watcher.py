"""One process's part in the watch: look, send, and cry out when Postgres is down."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import log, quiet
from app.alerts import send, watch
from app.alerts.compose import Manners, Message
from app.alerts.send import Notifiers
from app.alerts.watch import Watched
from app.config import Config
from app.health import rules
from app.health.explain import at
from app.store import alerts as store
from app.store.db import AWAY, Pool

POSTGRES_PATIENCE = 15.0  # seconds that Postgres may be away before anybody is told
POSTGRES_TOLD = "rollcall:alert:postgres"
POSTGRES_AGAIN = 6 * 3600  # seconds after which it is told again

_log = log.logger(__name__)


def manners(config: Config) -> Manners:
    """How the settings want to be told."""
    hours, hush = config.alert_remind_hours, config.alert_quiet_hours
    return Manners(
        group=config.alert_group_seconds,
        remind=timedelta(hours=hours) if hours else None,
        quiet=quiet.parse(hush) if hush else None,
        public_url=config.public_url,
    )


class Watcher:
    """Looks and sends when it is told to. `close` it at the end."""

    def __init__(self, config: Config, pool: Pool, redis: Redis) -> None:
        self._notifiers = Notifiers.of(config.alert_urls)
        self._watched = Watched(
            pool, redis, rules.of(config), manners(config), list(self._notifiers.urls)
        )
        self._away_since: float | None = None
        self._told_alone = False

    async def step(self) -> None:
        """Look around once. Never raises for what Postgres, Redis or a notifier does."""
        try:
            await watch.look(self._watched)
            await self._back()
        except AWAY as error:
            await self._postgres_away(error)
            return
        await self._deliver()

    async def keep_watch(self, every: float) -> None:
        """Look around for ever, so many seconds apart."""
        failed: type[Exception] | None = None
        while True:
            await asyncio.sleep(every)
            try:
                await self.step()
                failed = None
            except Exception as error:  # noqa: BLE001 - the watch goes on
                # Before the schema is there, say, it fails each time: once is enough.
                if type(error) is not failed:
                    _log.exception("alert.watch_failed")
                failed = type(error)

    def close(self) -> None:
        """Let go of the notifiers' threads."""
        self._notifiers.close()

    async def _deliver(self) -> None:
        pool = self._watched.pool
        try:
            if self._notifiers.urls:
                await send.deliver(pool, self._notifiers)
            await send.tell(pool, self._watched.redis)
        except AWAY as error:
            _log.warning("alert.put_off", error=repr(error))

    async def _postgres_away(self, error: BaseException) -> None:
        """Nothing can be written down: a key in Redis says who tells it, or each tells it once."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            _log.warning("alert.no_postgres", error=repr(error))
        if now - self._away_since < POSTGRES_PATIENCE or self._hushed():
            return
        if await self._mine_to_tell():
            since = datetime.now(UTC) - timedelta(seconds=now - self._away_since)
            await self._cry_out(since)

    def _hushed(self) -> bool:
        hush = self._watched.manners.quiet
        return hush is not None and hush.covers(datetime.now(UTC))

    async def _mine_to_tell(self) -> bool:
        since = datetime.now(UTC).isoformat()
        try:
            mine = await self._watched.redis.set(POSTGRES_TOLD, since, nx=True, ex=POSTGRES_AGAIN)
        except (RedisError, OSError, TimeoutError):
            mine, self._told_alone = not self._told_alone, True
        return bool(cast("object", mine))

    async def _cry_out(self, since: datetime) -> None:
        body = (
            f"Postgres has not answered since {at(since)}. No run can start; "
            "what was due is decided when it is back."
        )
        message = Message("[rollcall] Postgres does not answer", body)
        errors = [await self._notifiers.send(name, message) for name in self._notifiers.urls]
        _log.error("alert.postgres_away", told=sum(error is None for error in errors))
        if errors and all(errors):
            await self._let_another_tell()

    async def _let_another_tell(self) -> None:
        self._told_alone = False
        try:
            await self._watched.redis.delete(POSTGRES_TOLD)
        except (RedisError, OSError, TimeoutError):
            _log.info("alert.untold")

    async def _back(self) -> None:
        """Postgres answers: who was told that it did not is told this too."""
        self._away_since, self._told_alone = None, False
        try:
            told = cast("bytes | None", await self._watched.redis.getdel(POSTGRES_TOLD))
        except (RedisError, OSError, TimeoutError):
            return
        if told is None or not self._notifiers.urls:
            return
        now = datetime.now(UTC)
        texts = ("[rollcall] Postgres answers again", f"It was told at {told.decode()}.")
        await store.queue(self._watched.pool, list(self._notifiers.urls), texts, now)
