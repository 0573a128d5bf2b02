"""Delivery of alerts to organisations' channels, by workers only."""

import asyncio
import time
from dataclasses import dataclass, field

import asyncpg

from app.context import WorkerContext
from app.core import log
from app.core.errors import BadConfig
from app.core.tasks import cancel_all, first_ended
from app.health.alerts.org_alerts import TEST_TITLE
from app.health.alerts.send import Notifiers
from app.orgs import alert_channels
from app.store.db import UNAVAILABLE
from app.store.reports import alerts
from app.store.reports import org_alerts as store
from app.store.reports.org_alerts import ClaimedOrgMessage

MAX_CONCURRENT = 8  # each is a thread while it is sent
STEP_SECONDS = 5.0  # seconds for which one step goes on while there is work

_log = log.logger(__name__)


@dataclass(slots=True)
class OrgAlertSender:
    """The messages that this process sends now. `close` it at the end."""

    tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    async def step(self, context: WorkerContext) -> None:
        """Send what is due, for as long as there is more, at most STEP_SECONDS.

        What takes longer goes on behind it. Delivery is at least once, as for the operator.
        """
        deadline = time.monotonic() + STEP_SECONDS
        try:
            while await self._start_due(context) or self.tasks:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                await first_ended(self.tasks, left)
        except UNAVAILABLE as error:
            _log.warning("alert.put_off", error=repr(error))

    async def close(self) -> None:
        """Cancel what is under way; another worker sends it after its lease."""
        await cancel_all(self.tasks)

    async def _start_due(self, context: WorkerContext) -> bool:
        started = False
        while len(self.tasks) < MAX_CONCURRENT:
            message = await store.claim_next(context.pool)
            if message is None:
                break
            task = asyncio.create_task(_send(context, message))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            started = True
        return started


async def _send(context: WorkerContext, claimed: ClaimedOrgMessage) -> None:
    try:
        error = await _attempt(context, claimed)
        if error is None:
            await alerts.mark_sent(context.pool, claimed.id)
        else:
            last = claimed.message.title == TEST_TITLE
            await alerts.mark_failed(context.pool, claimed.id, error, give_up=last)
    except (asyncpg.PostgresError, *UNAVAILABLE) as failed:  # its lease ends, and it is tried again
        _log.warning("alert.not_recorded", message=claimed.id, error=repr(failed))


async def _attempt(context: WorkerContext, claimed: ClaimedOrgMessage) -> str | None:
    """Send it; returns the error, or None if it was delivered."""
    try:
        url = alert_channels.open_url(context.config, claimed)
    except BadConfig as error:
        return str(error)
    return await Notifiers({claimed.service: url}, {}).send(claimed.service, claimed.message)
