"""Runs: claimed under a lease, kept alive by one heartbeat, and ended exactly once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app import log
from app.errors import Failure, Fenced, RollcallError
from app.store import runs as store
from app.store.db import AWAY, GONE, Pool
from app.store.runs import Claimed, Deferral, Ending, Waiting
from app.words import RunStatus

Clock = Callable[[], datetime]
Lease = tuple[UUID, int]  # of which run, and which epoch

_log = log.logger(__name__)
_INSIST = (0.2, 0.5, 1.0, 2.0)
MOST_ATTEMPTS = 20  # of a run whose worker is cut off from Postgres each time

_EVEN = 5.0  # seconds; of two limits as close as this, the one that is told of itself holds

DEFERRALS = 3  # of one run
ELBOW_ROOM = timedelta(seconds=30)  # between a deferred start and the schedule's next tick
UNSCHEDULED = timedelta(minutes=15)  # how long a run without a schedule may be put off at once


@dataclass(slots=True)
class Leases:
    """The leases of all attempts of this worker. One heartbeat renews them together."""

    pool: Pool
    clock: Clock
    seconds: float
    held: dict[Lease, asyncio.Task[Any]] = field(default_factory=dict[Lease, asyncio.Task[Any]])
    gone: set[Lease] = field(default_factory=set[Lease])
    under_way: int = 0
    in_line: int = 0  # of those, organisations' runs

    async def renew(self) -> None:
        """Prolong every lease; an attempt whose epoch is gone is cancelled here and now."""
        held = list(self.held)
        if not held:
            return
        ours = await store.renew(self.pool, held, self.clock(), self.seconds)
        for lease in held:
            if lease not in ours and lease in self.held:
                self._lose(lease)

    def hold(self, claimed: Claimed) -> None:
        """Keep this attempt's lease until it is let go; an older attempt's is lost by that."""
        for lease in [held for held in self.held if held[0] == claimed.run_id]:
            self._lose(lease)
        task = asyncio.current_task()
        if task is not None:
            self.held[claimed.run_id, claimed.epoch] = task

    def let_go(self, claimed: Claimed) -> bool:
        """Stop renewing; true if the lease had gone meanwhile."""
        lease = (claimed.run_id, claimed.epoch)
        self.held.pop(lease, None)
        gone = lease in self.gone
        self.gone.discard(lease)
        return gone

    def _lose(self, lease: Lease) -> None:
        self.gone.add(lease)
        self.held[lease].cancel()
        _log.warning("lease.gone", execution_id=str(lease[0]), epoch=lease[1])


@dataclass(slots=True)
class Outcome:
    """What is known of how the run will end. Until something better is known, it was cut short."""

    status: RunStatus = RunStatus.CANCELLED
    stats: dict[str, Any] | None = None
    error: BaseException | None = None
    error_type: str | None = None
    error_message: str | None = None
    why_back: str = "worker stops"
    deferral: Deferral | None = None
    handed_back: Waiting | None = None
    fenced: bool = False
    limit: asyncio.Timeout | None = None
    too_long: tuple[str, str] | None = None

    def allow(self, seconds: float, error_type: str, message: str) -> None:
        """Give the attempt but so long from now, and say that if it takes longer."""
        if self.limit is None:
            return
        by = asyncio.get_running_loop().time() + seconds
        earlier = self.limit.when()
        if earlier is None or by <= earlier + _EVEN:
            self.limit.reschedule(by if earlier is None else min(by, earlier))
            self.too_long = (error_type, message)


async def claim(leases: Leases, run_id: UUID, worker: str) -> Claimed | None:
    """Take a queued run under a lease; None if somebody else has it.

    Cancelled while Postgres answers, it hands back what it took: no lease has to expire first.
    """
    taking = asyncio.ensure_future(
        store.claim(leases.pool, run_id, worker, leases.clock(), leases.seconds)
    )
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        await _shielded(_put_back(leases, taking))
        raise


async def _put_back(leases: Leases, taking: Awaitable[Claimed | None]) -> None:
    with suppress(*AWAY):  # then the lease expires
        claimed = await taking
        if claimed is not None:
            await store.hand_back(leases.pool, claimed, leases.clock(), "worker stops")


@asynccontextmanager
async def attempt(leases: Leases, claimed: Claimed) -> AsyncGenerator[Outcome]:
    """Hold the lease while the body works, then record the outcome once, whatever happened.

    The body sets the outcome's status. An exception of the body is recorded and goes no further;
    being cancelled, or cut off from Postgres, hands the run back for another worker.
    """
    limit = asyncio.timeout(claimed.timeout)
    outcome = Outcome(limit=limit)
    leases.hold(claimed)
    try:
        async with limit:
            yield outcome
    except GONE as error:
        _blame_postgres(outcome, error, claimed.attempt)
    except TimeoutError as error:
        _blame_time(outcome, error, claimed.timeout if limit.expired() else None)
    except Fenced:
        outcome.fenced = True
    except asyncio.CancelledError:
        outcome.status = RunStatus.CANCELLED
    except Exception as error:  # noqa: BLE001 - a job that raises is an outcome, not a dead worker
        _blame(outcome, RunStatus.FAILURE, error, str(error))
    finally:
        outcome.fenced = leases.let_go(claimed) or outcome.fenced
        await _shielded(_record(leases, claimed, outcome))
        _take_back_cancels()


def _blame(outcome: Outcome, status: RunStatus, error: Exception, message: str) -> None:
    outcome.status = status
    outcome.error = error
    outcome.error_type = error.kind if isinstance(error, Failure) else type(error).__name__
    outcome.error_message = message[:2_000]


def _blame_postgres(outcome: Outcome, error: Exception, attempt_: int) -> None:
    if attempt_ < MOST_ATTEMPTS:
        outcome.why_back = f"Postgres was away: {error}"[:2_000]
    else:  # an outage so long, or so well timed, is something else
        _blame(outcome, RunStatus.FAILURE, error, str(error))


def _blame_time(outcome: Outcome, error: TimeoutError, limit: float | None) -> None:
    if limit is None:  # something within the body took too long, not the body
        _blame(outcome, RunStatus.FAILURE, error, str(error))
    else:
        _blame(outcome, RunStatus.TIMED_OUT, error, f"took longer than {limit:g} s")
        if outcome.too_long is not None:
            outcome.error_type, outcome.error_message = outcome.too_long


async def _shielded(recording: Any) -> None:
    task = asyncio.ensure_future(recording)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue  # recorded first, cancelled afterwards
    task.result()


def _take_back_cancels() -> None:
    # A cancel that goes no further must be taken back: until Python 3.11.3 a timeout entered with
    # one pending (redis-py does, in every command) raises it again.
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def _record(leases: Leases, claimed: Claimed, outcome: Outcome) -> None:
    for pause in (*_INSIST, None):
        try:
            await _record_once(leases, claimed, outcome)
            return
        except AWAY as error:
            # Not recorded: the lease expires, and a sweep takes the run up again.
            _log.warning("run.unrecorded", error=str(error), again_in=pause)
            if pause is not None:
                await asyncio.sleep(pause)


async def _record_once(leases: Leases, claimed: Claimed, outcome: Outcome) -> None:
    now = leases.clock()
    if outcome.fenced:
        _log.warning("run.fenced", epoch=claimed.epoch)
        return
    if outcome.status is RunStatus.CANCELLED:
        outcome.handed_back = await store.hand_back(leases.pool, claimed, now, outcome.why_back)
        again = outcome.handed_back is not None
        _log.info("run.handed_back", why=outcome.why_back, again=again)
        return
    if outcome.deferral is not None and outcome.error is None:
        await _defer(leases, claimed, outcome, outcome.deferral)
        return
    ending = Ending(outcome.status, now, outcome.stats, outcome.error_type, outcome.error_message)
    outcome.fenced = not await store.finish(leases.pool, claimed, ending)
    tell = _log.info if outcome.status is RunStatus.SUCCESS else _log.warning
    tell(
        "run.finished",
        status=outcome.status.value,
        error_type=outcome.error_type,
        error=outcome.error_message,
        recorded=not outcome.fenced,
        duration_ms=round((now - claimed.started_at).total_seconds() * 1000),
        **(outcome.stats or {}),
        exc_info=outcome.error if _unexpected(outcome.error) else None,
    )


async def _defer(leases: Leases, claimed: Claimed, outcome: Outcome, deferral: Deferral) -> None:
    outcome.handed_back = await store.defer(leases.pool, claimed, leases.clock(), deferral)
    outcome.fenced = outcome.handed_back is None
    _log.info(
        "run.deferred",
        until=deferral.until.isoformat(timespec="seconds"),
        sources=deferral.sources,
        why=deferral.why,
        recorded=not outcome.fenced,
    )


def deferral(
    claimed: Claimed, now: datetime, late: Mapping[str, tuple[datetime, str]]
) -> Deferral | None:
    """Whether the rest of a run waits for its `late` sources: name, until when, and why.

    Not more than three times, and only if that leaves the schedule's next tick its time: a run that
    is still open then would cost all its sources that tick. Else they fail with what they said.
    """
    latest = now + UNSCHEDULED if claimed.next_due is None else claimed.next_due - ELBOW_ROOM
    possible = {name: told for name, told in late.items() if told[0] <= latest}
    if claimed.deferrals >= DEFERRALS or not possible:
        return None
    until = max(until for until, _ in possible.values())
    why = "; ".join(f"{name}: {reason}" for name, (_, reason) in possible.items())
    return Deferral(until, tuple(possible), why)


def _unexpected(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, RollcallError | TimeoutError)


def verdict(sources: Sequence[RunStatus]) -> RunStatus:
    """How a run ends whose sources ended so. Nothing tried is no success."""
    ended = set(sources)
    if ended == {RunStatus.SUCCESS}:
        return RunStatus.SUCCESS
    if not ended or ended == {RunStatus.FAILURE}:
        return RunStatus.FAILURE
    return RunStatus.PARTIAL_FAILURE
