"""Sending what was put out, through Apprise, in threads of its own: a notifier may hang."""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import log
from app.alerts.compose import Message
from app.health import keys
from app.health.facts import HouseFacts
from app.store import alerts as store
from app.store.db import Pool

PATIENCE = 20.0  # seconds for one message to one notifier
AT_ONCE = 20  # messages of one round

_log = log.logger(__name__)


@dataclass(slots=True)
class Notifiers:
    """Where alerts go, by a name that can be shown: the kind and a few letters of a digest."""

    urls: Mapping[str, str]
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="notify")
    )

    @classmethod
    def of(cls, setting: SecretStr | None) -> "Notifiers":
        """Those of the settings."""
        urls = [] if setting is None else setting.get_secret_value().split()
        return cls({_name(url): url for url in urls})

    async def send(self, channel: str, message: Message) -> str | None:
        """Send one message; returns why it has not arrived, if it has not. Never raises."""
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self.threads, _send, self.urls[channel], message)
        try:
            async with asyncio.timeout(PATIENCE):
                return await sending
        except TimeoutError:
            return f"{channel} took longer than {PATIENCE:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a notifier does, the others go on
            return f"{channel} raised {type(error).__name__}"

    def close(self) -> None:
        """Let go of the threads, whatever they are waiting for."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def _name(url: str) -> str:
    return f"{url.partition('://')[0]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _send(url: str, message: Message) -> str | None:
    import apprise  # noqa: PLC0415 - costly, and needed by few processes

    app: Any = apprise.Apprise()
    kind = url.partition("://")[0]
    if not app.add(url):
        return f"Apprise does not understand this {kind} address"
    arrived = app.notify(title=message.title, body=message.body, body_format="text")
    return None if arrived else f"the {kind} notifier did not take it"


async def deliver(pool: Pool, notifiers: Notifiers) -> int:
    """Send what is due; returns how many messages arrived. What does not is tried again later.

    A message is sent at least once: one whose sender dies before writing it down goes out again.
    """
    arrived = 0
    for _ in range(AT_ONCE):
        message = await store.claim(pool, list(notifiers.urls))
        if message is None:
            break
        error = await notifiers.send(message.channel, Message(message.title, message.body))
        if error is None:
            await store.sent(pool, message)
            arrived += 1
            _log.info("alert.sent", channel=message.channel, title=message.title)
        else:
            await store.failed(pool, message, error)
            _log.warning("alert.not_sent", error=error, tries=message.attempts)
    return arrived


async def tell(pool: Pool, redis: Redis) -> None:
    """Say in health how sending goes."""
    pending = await store.pending(pool)
    facts = HouseFacts(
        pending=pending.count, failing_since=pending.failing_since, notifier_error=pending.error
    )
    try:
        await keys.write_alerting(redis, facts)
    except (RedisError, OSError, TimeoutError):
        _log.info("alert.untold")  # the next round tells it
