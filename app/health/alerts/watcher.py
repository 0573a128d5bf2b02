"""Alerting in one process: repeated passes, delivery, and a fallback without Postgres."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import log, redact
from app.core import quiet_hours as quiet
from app.core.alert_message import AlertMessage
from app.core.config import Config
from app.core.enums import AlertSeverity
from app.core.tasks import gather_fail_fast
from app.health import keys, rules
from app.health.alerts import send, watch
from app.health.alerts.compose import AlertPolicy
from app.health.alerts.job_state import SCHEDULER
from app.health.alerts.send import Notifiers
from app.health.alerts.watch import AlertContext
from app.health.explain import at
from app.store import server_faults
from app.store.db import STORAGE_FULL, TRANSIENT, UNAVAILABLE, Pool
from app.store.reports import alerts

POSTGRES_OUTAGE_LIMIT = 15.0  # seconds without Postgres before an alert is sent
POSTGRES_INCIDENT = "postgres"
POSTGRES_ALERT_KEY = "rollcall:alert:postgres"
POSTGRES_REPEAT_SECONDS = 6 * 3600  # seconds until the alert is repeated
POSTGRES_RETRY_SECONDS = 60.0  # until it is sent again to a notifier that failed
POSTGRES_REPORTED_KEY = "rollcall:alert:postgres:reported"  # when, until its recovery is reported
POSTGRES_REPORTED_TTL = 30 * 24 * 3600  # seconds
POSTGRES_AWAY_KEY = "rollcall:alert:postgres:away"  # the last process that could not use it
POSTGRES_AWAY_TTL = 60  # seconds
# It answers, but nothing can be recorded in it, so that an alert would never be queued.
UNUSABLE = (
    *UNAVAILABLE,
    *STORAGE_FULL,
    *server_faults.LASTING_POSTGRES,
)

_log = log.logger(__name__)


def alert_policy(config: Config) -> AlertPolicy:
    hours, quiet_hours = config.alert_remind_hours, config.alert_quiet_hours
    return AlertPolicy(
        group=config.alert_group_seconds,
        remind=timedelta(hours=hours) if hours else None,
        quiet=quiet.parse(quiet_hours) if quiet_hours else None,
        public_url=config.public_url,
    )


class AlertWatcher:
    """Runs alert passes and delivers messages. `close` it at the end."""

    def __init__(self, config: Config, pool: Pool, redis: Redis) -> None:
        self._notifiers = Notifiers.from_settings(config.alert_urls, config.alert_routes)
        self._watched = AlertContext(
            pool,
            redis,
            rules.rules_from_config(config),
            alert_policy(config),
            self._notifiers.channels,
        )
        self._id = uuid4().hex
        self._away_since: float | None = None
        self._sent_without_redis: str | None = None  # when
        self._failed: tuple[float, list[str]] = (0.0, [])  # when to try which notifiers again

    async def step(self) -> None:
        """Judge, queue and deliver once. Does not raise if a server or a notifier is down."""
        try:
            await watch.check(self._watched)
            await self._postgres_answers()
        except UNUSABLE as error:
            await self._postgres_away(error)
            return
        await self._deliver()

    async def run_forever(self, every: float) -> None:
        """Run `step` for ever, every `every` seconds. Logs an exception and goes on."""
        failed: type[Exception] | None = None
        while True:
            await asyncio.sleep(every)
            try:
                await self.step()
                failed = None
            except Exception as error:  # noqa: BLE001 - one failed step must not end alerting
                # A lasting fault, such as a missing schema, is logged once.
                if type(error) is not failed:
                    lasting = isinstance(error, server_faults.LASTING_POSTGRES)
                    passing = isinstance(error, (RedisError, *TRANSIENT))
                    write = _log.warning if passing else _log.error
                    write(
                        "alert.watch_failed",
                        error=server_faults.postgres_sentence(error) if lasting else repr(error),
                        exc_info=None if lasting or passing else error,
                    )
                failed = type(error)

    async def run_while_redis_fails(self, every: float) -> None:
        """Judge and deliver while Redis is away or takes no writes: no cron entry starts then.

        Unless another process sees a Redis that works: then it is only this one that does not.
        """
        judged = False
        while True:
            await asyncio.sleep(every)
            try:
                if await self._redis_works():
                    judged = False
                elif not judged or await self._scheduler_is_ill():
                    await watch.check(self._watched)
                    judged = True
                    await self._deliver()
            except Exception as error:  # noqa: BLE001 - a failed look must not end alerting
                _log.warning("alert.put_off", error=repr(error))

    async def _redis_works(self) -> bool:
        with suppress(RedisError, OSError):
            return await keys.write_refusal(self._watched.redis) is None
        return False

    async def _scheduler_is_ill(self) -> bool:
        async with self._watched.pool.acquire() as connection:
            return any(
                row["key"] == SCHEDULER and row["ill"] for row in await alerts.states(connection)
            )

    async def close(self) -> None:
        """End the deliveries that are under way."""
        await self._notifiers.close()

    async def _deliver(self) -> None:
        pool = self._watched.pool
        try:
            if self._notifiers.urls:
                await self._notifiers.deliver(pool)
            await send.publish_delivery_state(pool, self._watched.redis, [*self._notifiers.urls])
        except UNAVAILABLE as error:
            _log.warning("alert.put_off", error=repr(error))

    async def _postgres_away(self, error: BaseException) -> None:
        """Send the alert directly: from one process elected in Redis, or each without Redis."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            _log.warning("alert.no_postgres", error=repr(error))
        await self._mark_away()
        if now - self._away_since < POSTGRES_OUTAGE_LIMIT or self._in_quiet_hours():
            return
        retry_at, channels = self._failed
        if await self._claim_alert():
            channels = self._notifiers.taking(POSTGRES_INCIDENT, AlertSeverity.FAILURE)
        elif now < retry_at:
            return
        if channels:
            since = datetime.now(UTC) - timedelta(seconds=now - self._away_since)
            await self._send_alert(channels, since, error)

    async def _mark_away(self) -> None:
        with suppress(RedisError, OSError):
            await self._watched.redis.set(POSTGRES_AWAY_KEY, self._id, ex=POSTGRES_AWAY_TTL)

    def _in_quiet_hours(self) -> bool:
        quiet_hours = self._watched.policy.quiet
        return quiet_hours is not None and quiet_hours.covers(datetime.now(UTC))

    async def _claim_alert(self) -> bool:
        now, redis = datetime.now(UTC).isoformat(), self._watched.redis
        try:
            claimed = await redis.set(POSTGRES_ALERT_KEY, now, nx=True, ex=POSTGRES_REPEAT_SECONDS)
        except (RedisError, OSError):
            claimed = self._sent_without_redis is None
            self._sent_without_redis = self._sent_without_redis or now
        return bool(cast("object", claimed))

    async def _send_alert(self, channels: list[str], since: datetime, error: BaseException) -> None:
        title, what = "Postgres does not answer", f"Postgres has not answered since {at(since)}."
        read_only = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        if read_only or not isinstance(error, UNAVAILABLE):
            sentence = redact.text(server_faults.postgres_sentence(error))
            title, what = "Postgres cannot be used", f"Since {at(since)}: {sentence}."
        body = f"{what} No run can start; ticks that are due are decided when it answers again."
        message = AlertMessage(f"[rollcall] {title}", body, incident=POSTGRES_INCIDENT)
        errors = await gather_fail_fast(self._notifiers.send(name, message) for name in channels)
        _log.error("alert.postgres_away", told=sum(error is None for error in errors))
        failed = [name for name, error in zip(channels, errors, strict=True) if error]
        self._failed = (time.monotonic() + POSTGRES_RETRY_SECONDS, failed)
        if len(failed) < len(channels):
            await self._record_report()
        elif channels == self._notifiers.taking(POSTGRES_INCIDENT, message.severity):
            self._failed = (0.0, [])  # another process may reach them
            await self._release_alert()

    async def _record_report(self) -> None:
        now, redis = datetime.now(UTC).isoformat(), self._watched.redis
        try:
            await redis.set(POSTGRES_REPORTED_KEY, now, nx=True, ex=POSTGRES_REPORTED_TTL)
        except (RedisError, OSError):
            self._sent_without_redis = self._sent_without_redis or now

    async def _release_alert(self) -> None:
        self._sent_without_redis = None
        try:
            await self._watched.redis.delete(POSTGRES_ALERT_KEY)
        except (RedisError, OSError):
            _log.info("alert.untold")

    async def _postgres_answers(self) -> None:
        """Queue a recovery message if an outage of Postgres was reported, after quiet hours."""
        self._away_since, self._failed = None, (0.0, [])
        kept = await self._outage_keys()
        if not any(kept) and self._sent_without_redis is None:
            return
        if self._in_quiet_hours() or kept[0] not in {None, self._id.encode()}:
            return
        reported = await self._take_report()
        channels = self._notifiers.taking(POSTGRES_INCIDENT, AlertSeverity.SUCCESS)
        if reported is not None and channels:
            message = AlertMessage(
                "[rollcall] Postgres answers again",
                f"The outage was reported at {reported}.",
                AlertSeverity.SUCCESS,
                POSTGRES_INCIDENT,
            )
            try:
                await alerts.enqueue(self._watched.pool, channels, message, datetime.now(UTC))
            except BaseException:
                self._sent_without_redis = reported  # the next step without an error reports it
                raise
        with suppress(RedisError, OSError):
            await self._watched.redis.delete(POSTGRES_ALERT_KEY, POSTGRES_AWAY_KEY)

    async def _outage_keys(self) -> list[bytes | None]:
        """The values of the keys of an outage, the process that last saw it first."""
        names = [POSTGRES_AWAY_KEY, POSTGRES_ALERT_KEY, POSTGRES_REPORTED_KEY]
        with suppress(RedisError, OSError):
            return cast("list[bytes | None]", await self._watched.redis.mget(names))
        return [None]

    async def _take_report(self) -> str | None:
        """Take the report of an outage; returns when it was made."""
        stored = None
        with suppress(RedisError, OSError):
            stored = cast("bytes | None", await self._watched.redis.getdel(POSTGRES_REPORTED_KEY))
        own, self._sent_without_redis = self._sent_without_redis, None
        return own if stored is None else stored.decode()
