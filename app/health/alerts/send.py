"""Delivery of queued alerts through Apprise, in threads because notifiers block."""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import log
from app.health import keys
from app.health.alerts.compose import AlertMessage
from app.health.facts import SystemFacts
from app.store.db import Pool
from app.store.reports import alerts as store

SEND_TIMEOUT = 20.0  # seconds for one message to one notifier
MAX_MESSAGES = 20  # messages per call of `deliver`

_log = log.logger(__name__)


@dataclass(slots=True)
class Notifiers:
    """Notifier URLs by channel name, which is the URL scheme and a digest without secrets."""

    urls: Mapping[str, str]
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="notify")
    )

    @classmethod
    def from_setting(cls, setting: SecretStr | None) -> "Notifiers":
        """The notifiers that the settings configure."""
        urls = [] if setting is None else setting.get_secret_value().split()
        return cls({_name(url): url for url in urls})

    async def send(self, channel: str, message: AlertMessage) -> str | None:
        """Send one message. Returns None if it was delivered, else the error. Never raises."""
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self.threads, _send, self.urls[channel], message)
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                return await sending
        except TimeoutError:
            return f"{channel} took longer than {SEND_TIMEOUT:g} s"
        except Exception as error:  # noqa: BLE001 - a faulty notifier must not stop the others
            return f"{channel} raised {type(error).__name__}"

    def close(self) -> None:
        """Shut the threads down without waiting for them."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def _name(url: str) -> str:
    return f"{url.partition('://')[0]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _send(url: str, message: AlertMessage) -> str | None:
    import apprise  # noqa: PLC0415 - slow to import, and needed by few processes

    app: Any = apprise.Apprise()
    scheme = url.partition("://")[0]
    if not app.add(url):
        return f"Apprise does not support this {scheme} URL"
    delivered = app.notify(title=message.title, body=message.body, body_format="text")
    return None if delivered else f"the {scheme} notifier rejected the message"


async def deliver(pool: Pool, notifiers: Notifiers) -> int:
    """Send the messages that are due. Returns the number delivered; failures are retried later.

    Delivery is at least once: if the process dies before it records a message as sent, the message
    is sent again.
    """
    delivered = 0
    for _ in range(MAX_MESSAGES):
        message = await store.claim_next(pool, list(notifiers.urls))
        if message is None:
            break
        error = await notifiers.send(message.channel, AlertMessage(message.title, message.body))
        if error is None:
            await store.mark_sent(pool, message)
            delivered += 1
            _log.info("alert.sent", channel=message.channel, title=message.title)
        else:
            await store.mark_failed(pool, message, error)
            _log.warning("alert.not_sent", error=error, tries=message.attempts)
    return delivered


async def publish_delivery_state(pool: Pool, redis: Redis) -> None:
    """Publish the state of alert delivery to health. Never raises for Redis."""
    pending = await store.pending(pool)
    facts = SystemFacts(
        pending=pending.count, failing_since=pending.failing_since, notifier_error=pending.error
    )
    try:
        await keys.write_alerting(redis, facts)
    except (RedisError, OSError, TimeoutError):
        _log.info("alert.untold")  # the next call publishes it
