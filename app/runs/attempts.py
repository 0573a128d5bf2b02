"""Run attempts: claimed under a lease, and recorded exactly once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.core import log
from app.core.enums import FailureKind, RunStatus
from app.core.errors import BadParameters, BadResult, Failure, LeaseLost, RollcallError
from app.runs.leases import Leases
from app.store.db import (
    CONNECTION_LOST,
    STORAGE_FULL,
    TRANSIENT,
    UNAVAILABLE,
    is_from_postgres,
    outwait_locks,
)
from app.store.runs import attempt_rows as store
from app.store.runs.attempt_rows import Claim, ClaimedRun, Deferral, RunEnding, Start
from app.store.runs.run_rows import QueuedRun, RunRequest

_log = log.logger(__name__)
_RECORD_RETRY_DELAYS = (0.2, 0.5, 1.0, 2.0)
MAX_MESSAGE_LENGTH = 2_000  # characters
MAX_LOST_ATTEMPTS = 20  # after which losing Postgres, or a cancellation, fails the run
OVERTIME_SECONDS = 30.0  # for a body to end after its timeout has cancelled it

_LIMIT_TOLERANCE = 5.0  # seconds; of two limits this close, the one with a message is reported

MAX_DEFERRALS = 3  # per run
NEXT_TICK_MARGIN = timedelta(seconds=30)  # between a deferred start and the schedule's next tick
MAX_UNSCHEDULED_DEFERRAL = timedelta(
    minutes=15
)  # the longest single deferral of a run without a schedule


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Repeats a failed run after each of these `delays`, in seconds."""

    delays: tuple[float, ...]


FAILED = frozenset({RunStatus.FAILURE, RunStatus.TIMED_OUT, RunStatus.PARTIAL_FAILURE})


@dataclass(slots=True)
class AttemptOutcome:
    """How an attempt ends: `CANCELLED` until its body sets another status.

    `hand_back_reason`: the reason recorded when the run is handed back. `requeued`: the queued
    run that
    follows a hand-back or a deferral. `fenced`: the lease was lost, nothing may be recorded; or
    Postgres did not take the outcome.
    `limit_error`: error type and message that replace those of the timeout. `retry`: when a failed
    run is repeated, if it is.
    """

    status: RunStatus = RunStatus.CANCELLED
    stats: dict[str, Any] | None = None
    error: BaseException | None = None
    error_type: str | None = None
    error_message: str | None = None
    hand_back_reason: str = "worker stops"
    deferral: Deferral | None = None
    requeued: QueuedRun | None = None
    fenced: bool = False
    timeout: asyncio.Timeout | None = None
    limit_error: tuple[str, str] | None = None
    retry: RetryPolicy | None = None

    def limit_duration(self, seconds: float, error_type: str, message: str) -> None:
        """Limit the attempt to `seconds` from now; past that it fails with this error."""
        if self.timeout is None:
            return
        deadline = asyncio.get_running_loop().time() + seconds
        current = self.timeout.when()
        if current is None or deadline <= current + _LIMIT_TOLERANCE:
            self.timeout.reschedule(deadline if current is None else min(deadline, current))
            self.limit_error = (error_type, message)

    def change_texts(self, change: Callable[[str], str]) -> None:
        """Replace what the attempt says of itself by what `change` makes of it."""
        self.hand_back_reason = change(self.hand_back_reason)
        if self.error_message is not None:
            self.error_message = change(self.error_message)
        if self.deferral is not None:
            self.deferral = replace(self.deferral, reason=change(self.deferral.reason))


async def claim(
    leases: Leases, run_id: UUID, worker: str, *, suspects: bool = True
) -> ClaimedRun | None:
    """Claim a queued run under a lease; None if it is not queued or already claimed.

    `suspects`: also claim a run whose worker has died before.
    If cancelled while Postgres answers, it hands the claim back, so that no lease has to expire.
    """
    claim = Claim(run_id, worker, leases.clock(), suspects)
    return await _claimed(leases, run_id, claim.at, leases.claims.add(claim))


async def start(leases: Leases, request: RunRequest, worker: str, key: str) -> ClaimedRun | None:
    """Create a manual run and claim it, as `claim` does; None if a run of that id exists.

    `key`: the schedule whose limits it has, if there is one.
    """
    start = Start(request, worker, leases.clock(), key)
    return await _claimed(leases, request.run_id, start.at, leases.starts.add(start))


async def _claimed(
    leases: Leases, run_id: UUID, now: datetime, step: Coroutine[Any, Any, ClaimedRun | None]
) -> ClaimedRun | None:
    claiming = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(claiming)
    except UNAVAILABLE:
        leases.unheard.setdefault(run_id, now)  # later ones found no connection
        raise
    except asyncio.CancelledError:
        await _shielded(_hand_back_claim(leases, claiming))
        raise


async def _hand_back_claim(leases: Leases, claiming: Awaitable[ClaimedRun | None]) -> None:
    with suppress(*TRANSIENT):  # otherwise the lease expires
        claimed = await claiming
        if claimed is not None:
            await store.release(leases.pool, claimed, leases.clock(), "worker stops")


@asynccontextmanager
async def attempt(leases: Leases, claimed: ClaimedRun) -> AsyncGenerator[AttemptOutcome]:
    """Hold the lease while the body runs, then record the outcome once, whatever happened.

    The body sets the outcome's status. An exception of the body is recorded and not raised;
    cancellation, or loss of Postgres, hands the run back for another worker. A body that suppresses
    a cancellation and returns is one that was cancelled; one that goes on has timed out as well.
    """
    limit = asyncio.timeout(claimed.timeout)
    outcome = AttemptOutcome(timeout=limit)
    leases.hold(claimed, limit)
    overtime = asyncio.create_task(_end_in_overtime(leases, claimed, outcome, limit))
    try:
        async with limit:
            yield outcome
        _check_not_interrupted(limit)
    except CONNECTION_LOST as error:
        _handle_postgres_loss(outcome, error, claimed.attempt)
    except STORAGE_FULL as error:
        message = f"Postgres has no room: {text_of(error)}; free some on its server"
        _set_error(outcome, RunStatus.FAILURE, error, message)
        outcome.error_type = FailureKind.STORAGE_FULL.value
    except TimeoutError as error:
        _handle_timeout(outcome, error, claimed.timeout if limit.expired() else None)
    except LeaseLost:
        outcome.fenced = True
    except asyncio.CancelledError as error:
        _handle_cancellation(outcome, error, claimed)
    except SystemExit as error:
        _set_error(outcome, RunStatus.FAILURE, error, f"the job called sys.exit({error.code!r})")
    except BaseException as error:  # noqa: BLE001 - an outcome, not the worker's end
        _set_error(outcome, RunStatus.FAILURE, error, text_of(error))
    finally:
        overtime.cancel()
        outcome.fenced = leases.release(claimed) or outcome.fenced
        await _shielded(_record(leases, claimed, outcome))
        _clear_cancellations()


async def _end_in_overtime(
    leases: Leases, claimed: ClaimedRun, outcome: AttemptOutcome, limit: asyncio.Timeout
) -> None:
    """Record the timeout of a body that suppresses its cancellation and goes on."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep((limit.when() or now) + OVERTIME_SECONDS - now)
    late = AttemptOutcome(limit_error=outcome.limit_error, fenced=outcome.fenced)
    await record_timeout(leases, claimed, late, "the job suppresses its cancellation and goes on")
    outcome.fenced = True
    leases.after_overtime()


async def record_timeout(
    leases: Leases, claimed: ClaimedRun, outcome: AttemptOutcome, why: str
) -> None:
    """Record the timeout of an attempt whose body has not ended, and why it has not.

    The lease is given up: what the body writes later as this attempt is refused.
    """
    _handle_timeout(outcome, TimeoutError(), claimed.timeout)
    outcome.error_message = f"{outcome.error_message}; {why}"
    outcome.fenced = leases.release(claimed) or outcome.fenced
    await _record(leases, claimed, outcome)


def _check_not_interrupted(limit: asyncio.Timeout) -> None:
    """Raise again what a body has suppressed that then returned: it need not have ended."""
    if limit.expired():
        raise TimeoutError
    if _is_cancelled():
        raise asyncio.CancelledError


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def text_of(error: BaseException | str) -> str:
    """The text of an error, which a faulty exception may not have."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - a job's own exception may be faulty, or exit
        return f"{type(error).__name__}, which has no text"


def _set_error(
    outcome: AttemptOutcome, status: RunStatus, error: BaseException, message: str
) -> None:
    outcome.status = status
    outcome.error = error
    outcome.error_type = error.kind if isinstance(error, Failure) else type(error).__name__
    outcome.error_message = message


def _handle_cancellation(
    outcome: AttemptOutcome, error: BaseException, claimed: ClaimedRun
) -> None:
    """Hand the run back, unless it would be queued again for ever."""
    if not _is_cancelled():
        message = "the job awaited a task that was cancelled, though the run was not"
        _set_error(outcome, RunStatus.FAILURE, error, message)
    elif claimed.attempt - claimed.deferrals - claimed.retries >= MAX_LOST_ATTEMPTS:
        message = (
            f"cancelled in {MAX_LOST_ATTEMPTS} attempts: either the job cancels its own task, or"
            " it takes longer than its workers live"
        )
        _set_error(outcome, RunStatus.FAILURE, error, message)
    else:
        outcome.status = RunStatus.CANCELLED


def _handle_postgres_loss(outcome: AttemptOutcome, error: Exception, number: int) -> None:
    if number < MAX_LOST_ATTEMPTS and is_from_postgres(error):
        outcome.hand_back_reason = f"Postgres was unavailable: {error}"
    else:  # the run itself may be the cause
        _set_error(outcome, RunStatus.FAILURE, error, text_of(error))


def _handle_timeout(outcome: AttemptOutcome, error: TimeoutError, limit: float | None) -> None:
    if limit is None:  # a timeout inside the body, not the attempt's
        _set_error(outcome, RunStatus.FAILURE, error, text_of(error))
    else:
        _set_error(outcome, RunStatus.TIMED_OUT, error, f"took longer than {limit:g} s")
        if outcome.limit_error is not None:
            outcome.error_type, outcome.error_message = outcome.limit_error


async def _shielded(recording: Any) -> None:
    task = asyncio.ensure_future(recording)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue  # the recording is completed before the cancellation takes effect
    task.result()


def _clear_cancellations() -> None:
    # A suppressed cancellation must be uncounted: until Python 3.11.3 a timeout entered with one
    # pending (redis-py does so in every command) raises it again.
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def _record(leases: Leases, claimed: ClaimedRun, outcome: AttemptOutcome) -> None:
    replaced = False
    for pause in (*_RECORD_RETRY_DELAYS, None):
        try:
            await outwait_locks(lambda: _record_once(leases, claimed, outcome))
            return
        except TRANSIENT as error:
            _log.warning("run.unrecorded", error=str(error), again_in=pause)
            if pause is not None:
                await asyncio.sleep(pause)
        except Exception as error:
            if replaced:
                raise
            replaced = True
            message = f"its outcome cannot be recorded: {type(error).__name__}: {text_of(error)}"
            outcome.stats = outcome.deferral = outcome.retry = None
            _set_error(outcome, RunStatus.FAILURE, BadResult(message), message)
    # The next heartbeat that reaches Postgres records it, unless a sweep has taken the run up.
    late, fields = replace(outcome), copy_context()  # those of the log
    leases.unrecorded[claimed.run_id, claimed.epoch] = lambda: asyncio.create_task(
        _record_once(leases, claimed, late), context=fields
    )
    outcome.fenced = True


async def _record_once(leases: Leases, claimed: ClaimedRun, outcome: AttemptOutcome) -> None:
    now = leases.clock()
    if outcome.fenced:
        _log.warning("run.fenced", epoch=claimed.epoch)
        return
    # Of 100 MB, hiding secrets would block the loop; one across the first cut is known whole.
    shown = 10 * MAX_MESSAGE_LENGTH
    outcome.change_texts(lambda text: leases.hide(text[:shown])[:MAX_MESSAGE_LENGTH])
    if outcome.status is RunStatus.CANCELLED:
        outcome.requeued = await store.release(leases.pool, claimed, now, outcome.hand_back_reason)
        again = outcome.requeued is not None
        _log.info("run.handed_back", why=outcome.hand_back_reason, again=again)
        return
    if outcome.deferral is None and outcome.retry is not None and outcome.status in FAILED:
        outcome.deferral = _retry(outcome, outcome.retry, claimed, now)
    if outcome.deferral is not None and (outcome.error is None or outcome.deferral.retry):
        outcome.requeued = await store.defer(leases.pool, claimed, now, outcome.deferral)
        outcome.fenced = outcome.requeued is None
        _log_deferral(outcome, outcome.deferral)
        return
    ending = RunEnding(
        outcome.status, now, outcome.stats, outcome.error_type, outcome.error_message
    )
    outcome.fenced = not await leases.endings.add((claimed, ending))
    write = _log.info if outcome.status is RunStatus.SUCCESS else _log.warning
    write(
        "run.finished",
        status=outcome.status.value,
        error_type=outcome.error_type,
        error=outcome.error_message,
        recorded=not outcome.fenced,
        duration_ms=round((now - claimed.started_at).total_seconds() * 1000),
        stats=outcome.stats or None,
        exc_info=outcome.error if _unexpected(outcome.error) else None,
    )


def _retry(
    outcome: AttemptOutcome, policy: RetryPolicy, claimed: ClaimedRun, now: datetime
) -> Deferral | None:
    """The retry of a failed run, or None: none is left, or the next tick comes first.

    Parameters that the job does not take are not retried.
    """
    if claimed.retries >= len(policy.delays) or isinstance(outcome.error, BadParameters):
        return None
    until = now + timedelta(seconds=policy.delays[claimed.retries])
    if claimed.next_due is not None and until > claimed.next_due:
        return None
    why = f"{outcome.status.value}: {outcome.error_type}: {outcome.error_message}"
    _log.warning(
        "run.retried",
        status=outcome.status.value,
        error=outcome.error_message,
        retry=claimed.retries + 1,
        of=len(policy.delays),
        exc_info=outcome.error if _unexpected(outcome.error) else None,
    )
    return Deferral(until, (), why, retry=True)


def _log_deferral(outcome: AttemptOutcome, deferral: Deferral) -> None:
    _log.info(
        "run.waits" if deferral.retry else "run.deferred",
        until=deferral.until.isoformat(timespec="seconds"),
        sources=deferral.sources,
        why=deferral.reason,
        recorded=not outcome.fenced,
    )


def decide_deferral(
    claimed: ClaimedRun, now: datetime, late: Mapping[str, tuple[datetime, str]]
) -> Deferral | None:
    """The deferral of a run whose `late` sources (name: until when, and why) must wait, or None.

    A run is deferred at most three times, and only if it can end before the schedule's next tick:
    a run still open then would cost all its sources that tick. Otherwise the sources fail.
    """
    latest = (
        now + MAX_UNSCHEDULED_DEFERRAL
        if claimed.next_due is None
        else claimed.next_due - NEXT_TICK_MARGIN
    )
    deferrable = {name: (until, why) for name, (until, why) in late.items() if until <= latest}
    if claimed.deferrals >= MAX_DEFERRALS or not deferrable:
        return None
    until = max(until for until, _ in deferrable.values())
    why = "; ".join(f"{name}: {reason}" for name, (_, reason) in deferrable.items())
    return Deferral(until, tuple(deferrable), why)


def _unexpected(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, (RollcallError, TimeoutError, *STORAGE_FULL))


def combined_status(sources: Sequence[RunStatus]) -> RunStatus:
    """The run's status from those of its sources. A run without sources has failed."""
    ended = set(sources)
    if ended == {RunStatus.SUCCESS}:
        return RunStatus.SUCCESS
    if not ended or ended == {RunStatus.FAILURE}:
        return RunStatus.FAILURE
    return RunStatus.PARTIAL_FAILURE
