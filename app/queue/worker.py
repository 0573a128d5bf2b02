"""arq's Worker with renewable claims, wake-ups, and tolerance of Redis outages.

Four things differ from arq's own worker. Jobs are claimed by one script in one round trip, under
this worker's token, so a claim can be renewed and released without affecting another worker's. Jobs
start when they are announced (WAKE_CHANNEL) or due (a timer), or when a slot becomes free; the
poll is the fallback. What is due is decided by Redis' clock, because the clocks of machines differ.
No error from Redis ends the process: only a signal does.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, cast
from uuid import uuid4

import arq.worker
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import timestamp_ms, to_unix_ms
from redis.exceptions import OutOfMemoryError, RedisError

from app.core.config import chosen_format
from app.core.event_loop import StopSignals, end_despite_threads, run_past_exits
from app.core.job_scope import share_with_jobs
from app.core.log import adopt_library_loggers, logger, report_fatal
from app.core.tasks import cancel_all
from app.queue.claimed_jobs import ClaimedJob, FetchedJobs
from app.queue.clock import elapsed
from app.queue.job_claims import CLAIM, DEFER, FINISH, RELEASE, RENEW
from app.queue.jobs import WAKE_CHANNEL, RedisClient, enqueue_crons
from app.queue.repair import RedisRepair
from app.queue.unknown import KnownFunctions
from app.queue.wake_ups import WakeUps
from app.store import server_faults

log = logger(__name__)

LEASE_SECONDS = 15.0
CLEANUP_SECONDS = 4.0  # for cancelled jobs to record it; Heroku allows 30 s in all
RELEASE_SECONDS = 1.0
RETRY_SECONDS = 0.2
CLAIM_SCAN_LIMIT = 1_000  # ids to read from the head of the queue, other workers' claims included

REDIS_ERRORS = (RedisError, OSError)


@dataclass
class _State:
    """State beyond arq's, created on first use.

    `__init__` cannot be overridden: arq reads the settings that it may pass from its signature.
    """

    token: str = field(default_factory=lambda: uuid4().hex)
    clock: Callable[[], float] = elapsed
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake_ups: WakeUps = field(default_factory=WakeUps)
    backlogged: bool = False  # due jobs wait for a free slot
    scores: dict[str, int] = field(default_factory=dict[str, int])  # of the jobs that run
    fetched: FetchedJobs = field(default_factory=FetchedJobs)
    stale_claims: bool = False  # this worker may hold claims without a running job
    cron_keys: dict[str, float] = field(
        default_factory=dict[str, float]
    )  # cron job ids and when arq's in-progress key expires
    redis_lost_at: float | None = None
    repair: RedisRepair = field(default_factory=RedisRepair)
    background: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    draining: asyncio.Task[None] | None = None
    signals: StopSignals = field(default_factory=StopSignals)


class SurvivingWorker(arq.worker.Worker):
    """arq's Worker with leases, wake-ups, timers and a graceful shutdown.

    `job_completion_wait`: seconds that running jobs may continue after SIGTERM. Read from `ctx`:
    `lease_seconds` (float), `run_slots`, how many jobs besides cron jobs run at once (all of
    `max_jobs`), and `heartbeat`, an async callable awaited every third of a lease from start to the
    end of the last job; `on_startup` may set each.

    A job cancelled after that time leaves the queue if its body suppresses the CancelledError and
    returns; if it raises it, the job waits for another worker and the try is not counted.
    A cancelled cron job is dropped: its tick has passed.
    """

    @cached_property
    def _state(self) -> _State:
        return _State()

    @property
    def pool(self) -> ArqRedis:
        """The client; to `run_job`, once, the body that came with the claim (`claimed_jobs.py`)."""
        return self._state.fetched.take() or cast("ArqRedis", self._pool)

    @property
    def _lease_seconds(self) -> float:
        return float(self.ctx.get("lease_seconds", LEASE_SECONDS))

    @property
    def _horizon_ms(self) -> int:
        """How far ahead timers are set: arq's own cron window plus half a second for the poll."""
        return int(max(self.poll_delay_s, 0.5) * 2_000) + 500

    # Main loop

    def run(self) -> None:
        """Process jobs until a signal, then close. No job ends the process for the others."""
        share_with_jobs(self.loop)
        self.main_task = self.loop.create_task(self.main())
        try:
            with contextlib.suppress(asyncio.CancelledError):
                run_past_exits(self.loop, self.main_task)
        finally:
            run_past_exits(self.loop, self.loop.create_task(self.close()))
        end_despite_threads()

    async def main(self) -> None:
        """Wait for Redis, then process jobs until cancelled."""
        adopt_library_loggers()  # arq adds a handler to its logger after reading the settings
        self.in_progress_timeout_s = self._lease_seconds
        if not self.burst:  # which ends when the queue is empty
            self.functions = KnownFunctions(self.functions)
        self.ctx.pop("redis", None)
        while True:
            if await self._run_until_redis_lost():
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _run_until_redis_lost(self) -> bool:
        try:
            if self._pool is not None:
                await cast("Awaitable[bool]", self._pool.ping())
            await super().main()
        except REDIS_ERRORS as error:
            if "redis" in self.ctx:  # past arq's own connection: on_startup failed
                raise
            if server_faults.is_lasting(error):
                report_fatal(server_faults.redis_sentence(error), chosen_format())
                raise SystemExit(2) from None
            self._redis_lost(error)
            return False
        return True

    def _start_background(self) -> None:
        steps = (
            self._claim_when_woken(),
            self._listen(),
            self._repeat(self._renew),
            self._repeat(self._call_heartbeat),
            self._repeat(self._repair),
        )
        self._state.background = [self.loop.create_task(step) for step in steps]

    async def _poll_iteration(self) -> None:
        if not self._state.background:
            self._start_background()
        if await self._succeeds(self._poll_once()):
            self._redis_restored()

    async def _poll_once(self) -> None:
        if self._handle_signals and self._state.draining is None:
            self._state.signals.keep(self.loop, self.handle_sig)
        self._reap()
        await self.heart_beat()
        await self._claim_next()
        if self.allow_abort_jobs:
            await self._cancel_aborted_jobs()

    async def heart_beat(self) -> None:
        """Record health and enqueue due cron jobs; no cron jobs while draining."""
        await self.record_health()
        if self.allow_pick_jobs:
            await self._enqueue_cron_jobs()

    async def _enqueue_cron_jobs(self) -> None:
        """Enqueue the cron jobs that are due before the next poll, as far ahead as arq does.

        arq's `run_cron` would write the machine's time into the queue.
        """
        now = datetime.fromtimestamp(self._state.clock(), self.timezone)
        window = timedelta(seconds=2 * max(self.poll_delay_s, 0.5))
        due: list[tuple[str, str, float]] = []
        for cron_job in self.cron_jobs:
            if cron_job.next_run is None and cron_job.run_at_startup:
                cron_job.next_run = now
            elif cron_job.next_run is None:
                cron_job.calculate_next(now)
            at = cast("datetime", cron_job.next_run)
            if at < now + window:
                job_id = f"{cron_job.name}:{to_unix_ms(at)}" if cron_job.unique else uuid4().hex
                due.append((cron_job.name, cron_job.job_id or job_id, (at - now).total_seconds()))
                cron_job.calculate_next(at)
        await enqueue_crons(self.pool, self.queue_name, due)

    async def _succeeds(self, step: Awaitable[object]) -> bool:
        try:
            await step
        except REDIS_ERRORS as error:
            self._redis_lost(error)
            return False
        except Exception:
            log.exception("worker.fault")
            return False
        return True

    def _redis_lost(self, error: Exception) -> None:
        if isinstance(error, OutOfMemoryError):
            self._state.repair.hurry()
        if self._state.redis_lost_at is None:
            self._state.redis_lost_at = time.monotonic()
            log.warning("worker.redis_away", error=type(error).__name__, message=str(error))

    def _redis_restored(self) -> None:
        if self._state.redis_lost_at is not None:
            log.info(
                "worker.redis_back", away_s=round(time.monotonic() - self._state.redis_lost_at, 2)
            )
            self._state.redis_lost_at = None

    def _running(self) -> dict[str, asyncio.Task[Any]]:
        return {job_id: task for job_id, task in self.tasks.items() if not task.done()}

    def _reap(self) -> None:
        for job_id, task in list(self.tasks.items()):
            if not task.done():
                continue
            del self.tasks[job_id]
            self._state.scores.pop(job_id, None)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.warning("worker.job_unfinished", job_id=job_id, error=repr(error))
                self._state.stale_claims = True

    # Starting jobs

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claim and start those of the jobs that are due and unclaimed, while slots are free."""
        if job_ids:
            await self._claim([job_id.decode(errors="replace") for job_id in job_ids])

    async def _claim_next(self) -> None:
        await self._claim([])

    def _free_slots(self) -> int:
        free = self.max_jobs - self.job_counter
        if self.burst and self.max_burst_jobs >= 0:
            free = min(free, self.max_burst_jobs - self._jobs_started())
        return max(free, 0)

    @cached_property
    def _cron_names(self) -> list[str]:
        return [cron_job.name for cron_job in self.cron_jobs]

    def _free_run_slots(self) -> int:
        """Slots for jobs that are no cron jobs: further ones would only be put off."""
        names = set(self._cron_names)
        runs = sum(job_id.rpartition(":")[0] not in names for job_id in self._running())
        return max(int(self.ctx.get("run_slots", self.max_jobs)) - runs, 0)

    async def _claim(self, job_ids: list[str]) -> None:
        async with self._state.starting:
            if not self.allow_pick_jobs:
                return
            if self._state.stale_claims:
                await self._release_claims()
            self._state.stale_claims = True  # until the response has arrived
            numbers = (
                int(self._lease_seconds * 1000),
                self._free_slots(),
                self._horizon_ms,
                CLAIM_SCAN_LIMIT,
                self._free_run_slots(),
                len(self._cron_names),
            )
            answer = await CLAIM(
                self.pool,
                self.queue_name,
                *(in_progress_key_prefix, job_key_prefix, retry_key_prefix),
                self._state.token,
                *numbers,
                *self._cron_names,
                *job_ids,
            )
            claimed, later, more_due, now = cast(
                "tuple[list[Any], list[Any], int, int]", tuple(answer)
            )
            self._state.stale_claims = False
            self._state.backlogged = bool(more_due) or (self._state.backlogged and bool(job_ids))
            for job_id, due in _pairs(later):
                self._state.wake_ups.add_timer(due, due - now, job_id)
            await self._start_claimed(ClaimedJob.read(claimed))

    async def _start_claimed(self, claimed: list[ClaimedJob]) -> None:
        if not self.allow_pick_jobs:  # the signal arrived during the claim
            self._state.stale_claims = True  # `close` releases them
            return
        self._reap()  # a job that failed to finish may be claimed again: remove its task first
        live = self._running()
        for job in claimed:
            if job.id not in live:  # else its claim had expired while it ran, and is now renewed
                await self._start(job)

    async def _start(self, job: ClaimedJob) -> None:
        await self.sem.acquire()  # never waits: it has one permit more than there are slots
        self.job_counter += 1
        self._state.scores[job.id] = job.score
        task = self.loop.create_task(self._run_claimed(job))
        task.add_done_callback(lambda _: self._release_sem_dec_counter_on_complete())
        self.tasks[job.id] = task

    async def _run_claimed(self, job: ClaimedJob) -> None:
        if not self.allow_abort_jobs:  # else arq asks for more than the claim has brought
            self._state.fetched.give(job)
        await self.run_job(job.id, job.score)

    def _release_sem_dec_counter_on_complete(self) -> None:
        super()._release_sem_dec_counter_on_complete()
        if self._state.backlogged:
            self._state.wake_ups.wake(scan=True)

    async def _release_claims(self) -> None:
        prefixes = (in_progress_key_prefix, retry_key_prefix)
        args = (*prefixes, self._state.token, CLAIM_SCAN_LIMIT)
        await RELEASE(self.pool, self.queue_name, *args, *self._running())

    async def _claim_when_woken(self) -> None:
        while True:
            job_ids, scan = await self._state.wake_ups.next()
            scan = scan or len(job_ids) > CLAIM_SCAN_LIMIT
            if job_ids and not scan:
                await self._succeeds(self._claim(job_ids))
            if scan:
                await self._succeeds(self._claim_next())

    async def _listen(self) -> None:
        while True:
            await self._succeeds(self._state.wake_ups.listen(cast("RedisClient", self.pool)))
            await asyncio.sleep(RETRY_SECONDS)

    # Leases

    async def _repeat(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            await step()

    async def _renew(self) -> None:
        running = self._running()
        if running:
            args = (in_progress_key_prefix, self._state.token, int(self._lease_seconds * 1000))
            await self._succeeds(RENEW(self.pool, self.queue_name, *args, *running))

    async def _repair(self) -> None:
        # Not a cron job: what it repairs may keep those from being claimed.
        await self._succeeds(self._state.repair.step(self.pool))

    async def _call_heartbeat(self) -> None:
        heartbeat = cast("Callable[[], Awaitable[None]] | None", self.ctx.get("heartbeat"))
        if heartbeat is None:
            return
        try:
            async with asyncio.timeout(self._lease_seconds):
                await heartbeat()
        except Exception as error:  # noqa: BLE001 - a failing hook must not end the worker
            log.warning("worker.heartbeat_failed", error=repr(error))

    async def finish_job(  # noqa: PLR0913, PLR0917 - arq's signature
        self,
        job_id: str,
        finish: bool,
        result_data: bytes | None,
        result_timeout_s: float | None,
        keep_result_forever: bool,
        incr_score: int | None,
        keep_in_progress: float | None,
    ) -> None:
        """Finish a job as arq does, retrying while Redis is away.

        A job interrupted by the drain is announced for another worker; a cron job is dropped.
        """
        interrupted = not finish and incr_score is None and not self.allow_pick_jobs
        cron = keep_in_progress is not None
        if interrupted and not cron:
            await self._return_job(job_id)
            return
        if interrupted:
            finish, keep_in_progress = True, None
        step = super().finish_job
        if incr_score is not None:
            # arq has added the delay to this machine's time: take only the delay.
            now = timestamp_ms()
            await self._defer(job_id, incr_score + self._state.scores.get(job_id, now) - now)
            incr_score = None
        if finish and not result_data and not cron and not self.allow_abort_jobs:
            prefixes = (in_progress_key_prefix, retry_key_prefix, job_key_prefix)
            keys = [prefix + job_id for prefix in prefixes]
            await self._retry_while_redis_is_away(
                lambda: FINISH(self.pool, self.queue_name, job_id, *keys)
            )
            return
        await self._retry_while_redis_is_away(
            lambda: step(
                job_id,
                finish,
                result_data,
                result_timeout_s,
                keep_result_forever,
                incr_score,
                keep_in_progress,
            )
        )
        if keep_in_progress is not None:
            self._remember_cron_key(job_id, keep_in_progress)

    async def _return_job(self, job_id: str) -> None:
        """Give up the claim and its try, which does not count, and announce the job."""
        # Together: the try of another worker's claim would be deleted.
        keys = in_progress_key_prefix + job_id, retry_key_prefix + job_id
        await self._retry_while_redis_is_away(lambda: self.pool.delete(*keys))
        await cast("RedisClient", self.pool).publish(WAKE_CHANNEL, job_id)

    async def _defer(self, job_id: str, delay_ms: int) -> None:
        await self._retry_while_redis_is_away(
            lambda: DEFER(self.pool, self.queue_name, job_id, max(delay_ms, 0))
        )

    async def _retry_while_redis_is_away(self, step: Callable[[], Awaitable[Any]]) -> None:
        give_up = time.monotonic() + self._lease_seconds
        while True:
            try:
                await step()
            except REDIS_ERRORS as error:
                self._redis_lost(error)
                if time.monotonic() > give_up:
                    raise
            else:
                return
            await asyncio.sleep(RETRY_SECONDS)

    def _remember_cron_key(self, job_id: str, seconds: float) -> None:
        now = time.monotonic()
        cron_keys = self._state.cron_keys
        while cron_keys and next(iter(cron_keys.values())) < now:
            del cron_keys[next(iter(cron_keys))]
        cron_keys[job_id] = now + seconds

    # Shutdown

    def handle_sig(self, signum: signal.Signals) -> None:
        """Start no more jobs, let running ones finish, stop. Only the first signal counts."""
        if self._state.draining is not None:
            return
        self.allow_pick_jobs = False
        log.info(
            "worker.draining",
            signal=signal.Signals(signum).name,
            running=len(self._running()),
            grace_s=self._job_completion_wait,
        )
        self._state.draining = self.loop.create_task(self._drain(signum))

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """As `handle_sig`: `job_completion_wait` applies to both."""
        self.handle_sig(signum)

    async def _drain(self, signum: signal.Signals) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS), self._state.starting:
                pass  # a claim under way has completed, so that no key is left without its job
        if live := self._running():
            await asyncio.wait(live.values(), timeout=self._job_completion_wait)
        await self._cancel_jobs()
        if self.main_task is not None:
            await cancel_all([self.main_task])
        if self.on_stop is not None:
            self.on_stop(signum)

    async def _cancel_jobs(self) -> None:
        """Cancel the job bodies, but not arq's tasks around them, which record the end."""
        cancelled: set[asyncio.Task[Any]] = set()
        deadline = time.monotonic() + CLEANUP_SECONDS
        while (live := self._running()) and time.monotonic() < deadline:
            bodies = {self.job_tasks[job_id] for job_id in live if job_id in self.job_tasks}
            for body in bodies - cancelled:
                body.cancel()
            cancelled |= bodies
            await asyncio.wait(live.values(), timeout=0.05)
        for task in live.values():
            task.cancel()
        if live:
            log.warning("worker.jobs_abandoned", jobs=sorted(live))
            await asyncio.wait(live.values(), timeout=RELEASE_SECONDS)

    async def close(self) -> None:
        """Drain, release every key, call `on_shutdown` if `on_startup` was called, disconnect.

        Errors from Redis or `on_shutdown` are logged and not raised.
        """
        if self._pool is None:
            return
        self.handle_sig(signal.SIGUSR1)
        await cast("asyncio.Task[None]", self._state.draining)
        await self._stop_background()
        await self._succeeds(self._release_keys())
        await self._succeeds(self._call_on_shutdown())
        with contextlib.suppress(*REDIS_ERRORS):
            await self.pool.aclose(close_connection_pool=True)
        self._pool = None
        log.info("worker.stopped", complete=self.jobs_complete, failed=self.jobs_failed)
        if self._handle_signals:
            # Python restores default handlers while it exits: a late signal would kill the process.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def _call_on_shutdown(self) -> None:
        if self.on_shutdown is not None and "redis" in self.ctx:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await self.on_shutdown(self.ctx)

    async def _stop_background(self) -> None:
        self._state.wake_ups.cancel_timers()
        await cancel_all(self._state.background)

    async def _release_keys(self) -> None:
        self._reap()
        self.tasks.clear()  # so that claims of abandoned jobs are released too
        cron_keys = [in_progress_key_prefix + job_id for job_id in self._state.cron_keys]
        async with asyncio.timeout(RELEASE_SECONDS):
            await self._release_claims()
            await self.pool.delete(self.health_check_key, *cron_keys)


def _pairs(flat: list[Any]) -> list[tuple[str, int]]:
    return [(flat[i].decode(), int(flat[i + 1])) for i in range(0, len(flat), 2)]


def install() -> None:
    """Make `arq Settings` use SurvivingWorker. Called once, on import of `app.workers.settings`."""
    arq.worker.Worker = SurvivingWorker
