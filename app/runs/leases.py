"""The leases of a worker's attempts, which one heartbeat renews."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core import log, redact
from app.core.batcher import Batcher
from app.store.db import LOCKED, TRANSIENT, UNAVAILABLE, Pool
from app.store.runs import attempt_rows as store
from app.store.runs.attempt_rows import Claim, ClaimedRun, RunEnding, Start

Clock = Callable[[], datetime]
Lease = tuple[UUID, int]  # run id and epoch

_log = log.logger(__name__)


@dataclass(slots=True)
class Leases:
    """The leases of all attempts of this worker. One heartbeat renews them together.

    Runs that are claimed, or that end, at the same time share a statement: `claims`, `starts`,
    `endings`. `seconds`: length of a lease. `limits`: those of the attempts whose leases are held.
    `lost`: held leases that were lost. `unheard`: runs, and when they
    were claimed, of claims whose answer was lost: they may have been made. `unrecorded`: what
    records the outcomes that Postgres did not take when they were known. `running`: runs being
    executed; `running_for_orgs`: those of them that belong to organisations. `hide` removes secrets
    from what is recorded. `after_overtime` is called when the outcome of a run that goes on after
    its timeout is recorded.
    """

    pool: Pool
    clock: Clock
    seconds: float
    hide: Callable[[str], str] = redact.text
    held: dict[Lease, asyncio.Task[Any]] = field(default_factory=dict[Lease, asyncio.Task[Any]])
    limits: dict[Lease, asyncio.Timeout] = field(default_factory=dict[Lease, asyncio.Timeout])
    lost: set[Lease] = field(default_factory=set[Lease])
    unheard: dict[UUID, datetime] = field(default_factory=dict[UUID, datetime])
    unrecorded: dict[Lease, Callable[[], Awaitable[None]]] = field(
        default_factory=dict[Lease, Callable[[], Awaitable[None]]]
    )
    running: int = 0
    running_for_orgs: int = 0
    after_overtime: Callable[[], None] = lambda: None
    claims: Batcher[Claim, ClaimedRun | None] = field(init=False)
    starts: Batcher[Start, ClaimedRun | None] = field(init=False)
    endings: Batcher[tuple[ClaimedRun, RunEnding], bool] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the statements that runs share."""
        self.claims = Batcher(
            lambda items: store.claim_all(self.pool, items, self.seconds), shared=UNAVAILABLE
        )
        self.starts = Batcher(
            lambda items: store.start_all(self.pool, items, self.seconds), shared=UNAVAILABLE
        )
        self.endings = Batcher(lambda items: store.finish_all(self.pool, items), shared=UNAVAILABLE)

    async def renew(self) -> None:
        """Renew every lease; an attempt whose lease was lost is cancelled."""
        held = list(self.held)
        if not held:
            return
        try:
            renewed = await store.renew(self.pool, held, self.clock(), self.seconds)
        except LOCKED:
            renewed = await self._renew_one_by_one(held)
        for lease in held:
            if lease not in renewed and lease in self.held:
                self._mark_lost(lease)

    async def hand_back_unheard(self) -> None:
        """Queue runs again whose claim was made but not heard of, before their leases expire."""
        for run_id, at in list(self.unheard.items()):
            if await store.release_unheard(self.pool, run_id, at, self.seconds, self.clock()):
                _log.warning("claim.handed_back", execution_id=str(run_id))
            del self.unheard[run_id]

    async def record_late(self) -> None:
        """Record the outcomes that Postgres did not take, if no other attempt has begun."""
        for lease in list(self.unrecorded):
            record = self.unrecorded.pop(lease)
            try:
                await record()
            except TRANSIENT:
                self.unrecorded[lease] = record
                raise

    async def _renew_one_by_one(self, held: Sequence[Lease]) -> set[Lease]:
        """Renew the others of a run whose row another session has locked; it is not lost."""
        renewed = set[Lease]()
        for lease in held:
            try:
                renewed |= await store.renew(self.pool, [lease], self.clock(), self.seconds)
            except LOCKED:
                _log.warning("lease.locked", execution_id=str(lease[0]), why="another session")
                renewed.add(lease)
        return renewed

    def hold(self, claimed: ClaimedRun, limit: asyncio.Timeout | None = None) -> None:
        """Renew this attempt's lease until released; older leases of the same run are lost.

        `limit`: the timeout of the attempt, if it is executed in this process.
        """
        for lease in [held for held in self.held if held[0] == claimed.run_id]:
            self._mark_lost(lease)
        task = asyncio.current_task()
        if task is not None:
            self.held[claimed.run_id, claimed.epoch] = task
        if limit is not None:
            self.limits[claimed.run_id, claimed.epoch] = limit

    def release(self, claimed: ClaimedRun) -> bool:
        """Stop renewing; returns true if the lease had been lost."""
        lease = (claimed.run_id, claimed.epoch)
        self.held.pop(lease, None)
        self.limits.pop(lease, None)
        gone = lease in self.lost
        self.lost.discard(lease)
        return gone

    def _mark_lost(self, lease: Lease) -> None:
        self.lost.add(lease)
        self.held[lease].cancel()
        _log.warning("lease.gone", execution_id=str(lease[0]), epoch=lease[1])
