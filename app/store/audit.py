"""Entries of the audit log: what people did, to what, and why."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import AuditAction
from app.store.db import Connection, Pool

# In the transaction of the act itself: neither exists without the other.
RECORD = """
INSERT INTO audit_log (at, by, action, job, execution_id, reason, detail, org_id)
VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7, $8)
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act: who did what, when, on which job or run, and why. `org_id`: who owns the object."""

    at: datetime
    by: str
    action: AuditAction
    job: str | None = None
    execution_id: UUID | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])
    org_id: UUID | None = None


async def record(connection: Pool | Connection, entries: Sequence[AuditEntry]) -> None:
    """Append the entries."""
    await connection.executemany(RECORD, [astuple(entry) for entry in entries])
