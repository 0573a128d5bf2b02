"""Acknowledging and snoozing an alert: it sends no reminder, and its author and reason are kept."""

from datetime import datetime

from app.core.enums import AuditAction
from app.core.errors import WrongState
from app.store import audit
from app.store.audit import AuditEntry
from app.store.db import Pool
from app.store.reports import acknowledgements
from app.store.reports.acknowledgements import Acknowledged


async def acknowledge(pool: Pool, key: str, acknowledged: Acknowledged) -> None:
    """Send no reminder of this alert until it recovers or gets worse, or the snooze ends.

    Raises WrongState if there is none, as of an organisation's collection.
    """
    action = AuditAction.ACKNOWLEDGE if acknowledged.until is None else AuditAction.SNOOZE
    detail = {} if acknowledged.until is None else {"until": acknowledged.until.isoformat()}
    async with pool.acquire() as connection, connection.transaction():
        await acknowledgements.lock(connection)
        if not await acknowledgements.acknowledge(connection, key, acknowledged):
            raise WrongState(f"there is no alert of {key}")
        entry = AuditEntry(
            acknowledged.at, acknowledged.by, action, key, reason=acknowledged.note, detail=detail
        )
        await audit.record(connection, [entry])


async def release(pool: Pool, key: str, at: datetime, by: str) -> None:
    """Send reminders of this alert again. Raises WrongState if it is not acknowledged."""
    async with pool.acquire() as connection, connection.transaction():
        await acknowledgements.lock(connection)
        if not await acknowledgements.release(connection, key):
            raise WrongState(f"the alert of {key} is not acknowledged")
        await audit.record(connection, [AuditEntry(at, by, AuditAction.UNACKNOWLEDGE, key)])
