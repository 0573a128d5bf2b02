"""Delivery of webhooks: makes deliveries from the feed, sends them, and records what came of it.

A worker sends many at once. Receivers that have failed before get at most half of its slots, so
that hanging ones do not delay the others.
"""

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import asyncpg

from app.context import WEBHOOK_CLIENT, WorkerContext, worker_context
from app.core import log
from app.core.enums import DeliveryState
from app.core.errors import BadConfig, Failure, UnsafeAddress
from app.core.tasks import cancel_all, first_ended
from app.fetch import urls
from app.fetch.transport_errors import TRANSPORT_ERRORS, to_failure
from app.orgs import webhooks
from app.store.content.changes import NOT_KEPT
from app.store.db import UNAVAILABLE
from app.store.orgs import webhooks as store
from app.store.orgs.webhooks import ClaimedDelivery

MAX_CONCURRENT = 64
STEP_SECONDS = 20.0  # seconds for which one step goes on while there is work
TIMEOUT_SECONDS = 10.0  # seconds of one exchange
MAX_RESPONSE_BYTES = 65_536
BODY_SECONDS = 1.0  # seconds for the body of an answer, which does not matter
# Seconds before each further attempt; after the last one the delivery is undelivered.
RETRY_DELAYS = (5, 60, 300, 1_800, 7_200, 18_000, 36_000)

_log = log.logger(__name__)


@dataclass(slots=True)
class Sender:
    """The deliveries that this process sends now. `busy`: a step is under way."""

    busy: bool = False
    fresh: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    retries: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def under_way(self) -> int:
        """How many deliveries are being sent."""
        return len(self.fresh) + len(self.retries)

    async def close(self) -> None:
        """Cancel what is under way; another worker sends it after its lease."""
        await cancel_all(self.fresh | self.retries)


async def deliver_webhooks(ctx: dict[str, Any]) -> None:
    """Send what is due, for as long as there is more, at most STEP_SECONDS. Runs every second.

    Deliveries that are still under way afterwards go on, and take their slots from the next step.
    """
    context = worker_context(ctx)
    sender: Sender = ctx.setdefault("sender", Sender())  # made at startup: each step has its ctx
    if sender.busy:
        return
    sender.busy = True
    try:
        deadline = time.monotonic() + STEP_SECONDS
        while await _start_due(context, sender) or sender.under_way:
            if time.monotonic() > deadline:
                break
            await first_ended(sender.fresh | sender.retries, 1)
    finally:
        sender.busy = False


async def _start_due(context: WorkerContext, sender: Sender) -> bool:
    await store.form(context.pool)
    started = False
    for retries, tasks, most in (
        (True, sender.retries, MAX_CONCURRENT // 2),
        (False, sender.fresh, MAX_CONCURRENT),
    ):
        free = min(most - len(tasks), MAX_CONCURRENT - sender.under_way)
        if free <= 0:
            continue
        for delivery in await store.claim(context.pool, free, retries=retries):
            task = asyncio.create_task(_try_to_deliver(context, delivery))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            started = True
    return started


async def _try_to_deliver(context: WorkerContext, delivery: ClaimedDelivery) -> None:
    try:
        await _deliver(context, delivery)
    except (asyncpg.PostgresError, *UNAVAILABLE) as error:  # its lease ends, and it is tried again
        _log.warning("webhook.not_recorded", delivery=str(delivery.id), error=repr(error))


async def _deliver(context: WorkerContext, delivery: ClaimedDelivery) -> None:
    found = await store.changes_of(context.pool, delivery.id)
    if len(found) < delivery.count:
        await _give_up(context, delivery, None, NOT_KEPT)
        return
    try:
        status, reason = await _send(context, delivery, webhooks.payload(delivery, found))
    except BadConfig as error:
        status, reason = None, str(error)
    if status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        await store.end(context.pool, delivery.id, DeliveryState.DELIVERED, status, None)
    elif not delivery.count:  # a test
        await _give_up(context, delivery, status, reason)
    elif status == HTTPStatus.GONE or delivery.attempts > len(RETRY_DELAYS):
        await _give_up(context, delivery, status, reason)
        await store.stop(context.pool, delivery.webhook_id, f"paused after failures: {reason}")
        _log.warning("webhook.paused", webhook=str(delivery.webhook_id), reason=reason)
    else:
        delay = RETRY_DELAYS[delivery.attempts - 1]
        await store.retry(context.pool, delivery.id, delay, status, reason)


async def _give_up(
    context: WorkerContext, delivery: ClaimedDelivery, status: int | None, reason: str
) -> None:
    await store.end(context.pool, delivery.id, DeliveryState.UNDELIVERED, status, reason)


async def _send(
    context: WorkerContext, delivery: ClaimedDelivery, body: bytes
) -> tuple[int | None, str]:
    """The receiver's status and what is wrong with it. Redirects are not followed."""
    client = context.clients[WEBHOOK_CLIENT]
    headers = webhooks.headers(context.config, delivery, body, context.clock())
    url = urls.public_url(delivery.url)
    try:
        request = client.build_request("POST", delivery.url, headers=headers, content=body)
        bounds = {"max_bytes": MAX_RESPONSE_BYTES, "body_seconds": BODY_SECONDS}
        request.extensions = {**request.extensions, **bounds}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            response = await client.send(request, stream=True)
            await response.aclose()
    except (Failure, UnsafeAddress) as error:
        return None, str(error)
    except TRANSPORT_ERRORS as error:
        return None, str(to_failure(error, url))
    return response.status_code, f"the receiver answered {response.status_code}"
