"""arq's Worker, made to survive: outages of Redis, deploys, dead neighbours; and quick to start.

Three things differ from the stock worker. Jobs are claimed by one script in one round trip, under
this worker's token, so a claim can be renewed and given back without touching another's. Work is
taken up when it is announced (`WAKE`) or due (a timer), and when a slot falls free; the poll is
the safety net. And nothing that Redis does ends the process: only a signal does.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast
from uuid import uuid4

import arq.worker
from arq.constants import (
    in_progress_key_prefix,
    retry_key_prefix,
)
from redis.exceptions import RedisError

from app.log import logger, take_over
from app.queue import WAKE, Script, Server

log = logger(__name__)

LEASE_SECONDS = 15.0
CLEANUP_SECONDS = 4.0  # for cancelled jobs to record that they were; Heroku gives 30 s in all
FAREWELL_SECONDS = 1.0
RETRY_SECONDS = 0.2
HUSH_SECONDS = 5.0  # a wake connection silent for so long is asked whether it still lives
ROUNDED_MS = 0.5  # arq rounds an instant to the nearest millisecond; nothing may start before it
LOOK_AT = 1_000  # ids at the head of the queue, those held by others among them

Trouble = (RedisError, OSError)


# Claims up to `room` due jobs, of those named or from the head of the queue.
# Returns the claimed, those due within the horizon (id, score, id, score, …) and whether more wait.
_CLAIM = Script("""
local prefix, token, lease = ARGV[1], ARGV[2], ARGV[3]
local now, room, horizon = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local ids = {unpack(ARGV, 8)}
if #ids == 0 then
  ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', horizon, 'LIMIT', 0, ARGV[7])
end
local claimed, later, more = {}, {}, 0
for _, id in ipairs(ids) do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or nil)
  if score and score > now then
    if score <= horizon then
      later[#later + 1] = id
      later[#later + 1] = score
    end
  elseif score and redis.call('EXISTS', prefix .. id) == 0 then
    if room == 0 then
      more = 1
      break
    end
    redis.call('SET', prefix .. id, token, 'PX', lease)
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = score
    room = room - 1
  end
end
return {claimed, later, more}
""")

_RENEW = Script("""
for i = 4, #ARGV do
  if redis.call('GET', ARGV[1] .. ARGV[i]) == ARGV[2] then
    redis.call('PEXPIRE', ARGV[1] .. ARGV[i], ARGV[3])
  end
end
""")

# Gives back what we hold at the head of the queue, but for the jobs named.
_LET_GO = Script("""
local keep = {}
for i = 4, #ARGV do keep[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[3])) do
  if not keep[id] and redis.call('GET', ARGV[1] .. id) == ARGV[2] then
    redis.call('DEL', ARGV[1] .. id)
  end
end
""")


@dataclass
class _Own:
    """What our worker knows beyond arq's: made on first use, for there is no `__init__` to add to.

    arq reads the settings it may pass from the signature of `Worker.__init__`.
    """

    token: str = field(default_factory=lambda: uuid4().hex)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    called: dict[str, None] = field(default_factory=dict[str, None])  # ids to start, in order
    look: bool = False  # look at the queue as well
    hungry: bool = False  # due jobs wait for a slot
    due: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    timers: dict[int, asyncio.TimerHandle] = field(default_factory=dict[int, asyncio.TimerHandle])
    unsure: bool = False  # there may be claims of ours for which nothing runs
    tails: dict[str, float] = field(default_factory=dict[str, float])  # arq's 60 s after a cron job
    away_since: float | None = None
    background: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    draining: asyncio.Task[None] | None = None


class SurvivingWorker(arq.worker.Worker):
    """arq's Worker with leases, wake-ups, timers and a clean end.

    `job_completion_wait` is the grace of running jobs after SIGTERM, in seconds. From `ctx`:
    `lease_seconds` (float), and `heartbeat`, an async callable awaited every third of a lease from
    start to the end of the last job; `on_startup` may add both.

    A job cancelled when the grace is over is gone from the queue if its body swallows the
    CancelledError and returns; if it lets it pass it waits for the next worker, its try uncounted.
    A cancelled cron job is dropped: its tick has passed.
    """

    @cached_property
    def _own(self) -> _Own:
        return _Own()

    @property
    def _lease(self) -> float:
        return float(self.ctx.get("lease_seconds", LEASE_SECONDS))

    @property
    def _ahead_ms(self) -> int:
        """How far ahead timers are set: arq's own cron window, and half a second for the poll."""
        return int(max(self.poll_delay_s, 0.5) * 2_000) + 500

    # Living

    async def main(self) -> None:
        """Wait for Redis, then work until cancelled."""
        take_over()  # arq gave its logger a handler after our settings were read
        self.in_progress_timeout_s = self._lease
        self.ctx.pop("redis", None)
        while True:
            if await self._worked():
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _worked(self) -> bool:
        try:
            if self._pool is not None:
                await cast("Awaitable[bool]", self._pool.ping())
            await super().main()
        except Trouble as error:
            if "redis" in self.ctx:  # arq was past its own greeting: this is on_startup's failure
                raise
            self._away(error)
            return False
        return True

    def _attend(self) -> None:
        steps = (self._take_up(), self._listen(), self._keep(self._renew), self._keep(self._beat))
        self._own.background = [self.loop.create_task(step) for step in steps]

    async def _poll_iteration(self) -> None:
        if not self._own.background:
            self._attend()
        if await self._survives(self._once()):
            self._back()

    async def _once(self) -> None:
        self._reap()
        await self.heart_beat()
        await self._pick()
        if self.allow_abort_jobs:
            await self._cancel_aborted_jobs()

    async def heart_beat(self) -> None:
        """arq's health key and cron jobs; no cron jobs while draining."""
        if not self.allow_pick_jobs:
            await self.record_health()
            return
        new = any(cron_job.next_run is None for cron_job in self.cron_jobs)
        await super().heart_beat()
        if new:  # arq has only looked when they are due, which may be before the next poll
            await super().heart_beat()

    async def _survives(self, step: Awaitable[None]) -> bool:
        try:
            await step
        except Trouble as error:
            self._away(error)
            return False
        except Exception:
            log.exception("worker.fault")
            return False
        return True

    def _away(self, error: Exception) -> None:
        if self._own.away_since is None:
            self._own.away_since = time.monotonic()
            log.warning("worker.redis_away", error=type(error).__name__, message=str(error))

    def _back(self) -> None:
        if self._own.away_since is not None:
            log.info("worker.redis_back", away_s=round(time.monotonic() - self._own.away_since, 2))
            self._own.away_since = None

    def _live(self) -> dict[str, asyncio.Task[Any]]:
        return {job_id: task for job_id, task in self.tasks.items() if not task.done()}

    def _reap(self) -> None:
        for job_id, task in list(self.tasks.items()):
            if not task.done():
                continue
            del self.tasks[job_id]
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.warning("worker.job_unfinished", job_id=job_id, error=repr(error))
                self._own.unsure = True

    # Starting jobs

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claim those of the jobs that are due and free, as far as there are slots; start them."""
        if job_ids:
            await self._claim([job_id.decode(errors="replace") for job_id in job_ids])

    async def _pick(self) -> None:
        await self._claim([])

    def _room(self) -> int:
        room = self.max_jobs - self.job_counter
        if self.burst and self.max_burst_jobs >= 0:
            room = min(room, self.max_burst_jobs - self._jobs_started())
        return max(room, 0)

    async def _claim(self, job_ids: list[str]) -> None:
        async with self._own.starting:
            if not self.allow_pick_jobs:
                return
            if self._own.unsure:
                await self._let_go()
            self._own.unsure = True  # until the answer is here
            now = int(time.time() * 1000 - ROUNDED_MS)
            numbers = (int(self._lease * 1000), now, self._room(), now + self._ahead_ms, LOOK_AT)
            answer = await _CLAIM(
                self.pool,
                self.queue_name,
                in_progress_key_prefix,
                self._own.token,
                *numbers,
                *job_ids,
            )
            claimed, later, more = cast("tuple[list[Any], list[Any], int]", tuple(answer))
            self._own.unsure = False
            self._own.hungry = bool(more) or (self._own.hungry and bool(job_ids))
            for job_id, due in _pairs(later):
                self._arm(due, job_id)
            await self._start_claimed(_pairs(claimed))

    async def _start_claimed(self, claimed: list[tuple[str, int]]) -> None:
        if not self.allow_pick_jobs:  # the signal came while Redis was answering
            self._own.unsure = True  # `close` lets go
            return
        self._reap()  # a job that ended badly may be among the claimed: its end is heard first
        live = self._live()
        for job_id, score in claimed:
            if job_id not in live:  # else its lease had lapsed while it ran: now it is ours again
                await self._start(job_id, score)

    async def _start(self, job_id: str, score: int) -> None:
        await self.sem.acquire()  # never waits: it has one place more than there are slots
        self.job_counter += 1
        task = self.loop.create_task(self.run_job(job_id, score))
        task.add_done_callback(lambda _: self._release_sem_dec_counter_on_complete())
        self.tasks[job_id] = task

    def _release_sem_dec_counter_on_complete(self) -> None:
        super()._release_sem_dec_counter_on_complete()
        if self._own.hungry:
            self._call(look=True)

    async def _let_go(self) -> None:
        args = (in_progress_key_prefix, self._own.token, LOOK_AT)
        await _LET_GO(self.pool, self.queue_name, *args, *self._live())

    # Being called: by the wake channel, by timers, by a slot falling free

    def _call(self, *job_ids: str, look: bool = False) -> None:
        self._own.called.update(dict.fromkeys(job_ids))
        self._own.look |= look
        self._own.woken.set()

    async def _take_up(self) -> None:
        own = self._own
        while True:
            await own.woken.wait()
            own.woken.clear()
            job_ids, own.called = list(own.called), {}
            look, own.look = own.look or len(job_ids) > LOOK_AT, False
            if job_ids and not look:
                await self._survives(self._claim(job_ids))
            if look:
                await self._survives(self._pick())

    def _arm(self, due_ms: int, job_id: str) -> None:
        self._own.due.setdefault(due_ms, set()).add(job_id)
        if due_ms not in self._own.timers:
            self._set_timer(due_ms)

    def _set_timer(self, due_ms: int) -> None:
        delay = (due_ms + ROUNDED_MS) / 1000 - time.time()
        self._own.timers[due_ms] = self.loop.call_later(max(delay, 0), self._ring, due_ms)

    def _ring(self, due_ms: int) -> None:
        if time.time() * 1000 < due_ms + ROUNDED_MS:  # the loop's clock is not the wall's
            self._set_timer(due_ms)
            return
        self._own.timers.pop(due_ms)
        self._call(*self._own.due.pop(due_ms))

    async def _listen(self) -> None:
        while True:
            await self._survives(self._hear())
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        async with cast("Server", self.pool).pubsub() as wire:
            await wire.subscribe(WAKE)
            asked = False
            while True:
                message = await wire.get_message(timeout=HUSH_SECONDS)
                if message is not None:
                    self._heard(message)
                elif asked:
                    raise TimeoutError("the wake connection does not answer")
                else:
                    await wire.ping()
                asked = message is None

    def _heard(self, message: dict[str, Any]) -> None:
        job_id = message["data"] if message["type"] == "message" else b""
        if job_id:
            self._call(job_id.decode(errors="replace"))
        elif message["type"] != "pong":
            self._call(look=True)  # a batch was announced, or we just came and missed what was said

    # Leases

    async def _keep(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await step()

    async def _renew(self) -> None:
        running = self._live()
        if running:
            args = (in_progress_key_prefix, self._own.token, int(self._lease * 1000))
            await self._survives(_RENEW(self.pool, self.queue_name, *args, *running))

    async def _beat(self) -> None:
        beat = cast("Callable[[], Awaitable[None]] | None", self.ctx.get("heartbeat"))
        if beat is None:
            return
        try:
            async with asyncio.timeout(self._lease):
                await beat()
        except Exception as error:  # noqa: BLE001 - the house's hook; a failing beat is not our end
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
        """arq's, tried again while Redis is away, with other endings for what a drain cut short."""
        cut_short = not finish and incr_score is None and not self.allow_pick_jobs
        cron = keep_in_progress is not None
        if cut_short and cron:
            finish, keep_in_progress = True, None
        step = super().finish_job
        await self._insist(
            lambda: step(
                job_id,
                finish,
                result_data,
                result_timeout_s,
                keep_result_forever,
                incr_score,
                keep_in_progress,
            ),
            tries_again=incr_score is None,
        )
        if keep_in_progress is not None:
            self._remember_tail(job_id, keep_in_progress)
        if cut_short and not cron:
            await self._hand_over(job_id)

    async def _insist(
        self, step: Callable[[], Coroutine[Any, Any, None]], *, tries_again: bool
    ) -> None:
        give_up = time.monotonic() + self._lease
        while True:
            try:
                return await step()
            except Trouble as error:
                self._away(error)
                if not tries_again or time.monotonic() > give_up:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    def _remember_tail(self, job_id: str, seconds: float) -> None:
        now = time.monotonic()
        tails = self._own.tails
        while tails and next(iter(tails.values())) < now:
            del tails[next(iter(tails))]
        tails[job_id] = now + seconds

    async def _hand_over(self, job_id: str) -> None:
        await self.pool.delete(retry_key_prefix + job_id)
        await cast("Server", self.pool).publish(WAKE, job_id)

    # Ending

    def handle_sig(self, signum: signal.Signals) -> None:
        """Start nothing more, give running jobs their grace, stop. Only the first signal counts."""
        if self._own.draining is not None:
            return
        self.allow_pick_jobs = False
        log.info(
            "worker.draining",
            signal=signal.Signals(signum).name,
            running=len(self._live()),
            grace_s=self._job_completion_wait,
        )
        self._own.draining = self.loop.create_task(self._drain(signum))

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """The same: `job_completion_wait` is read in both."""
        self.handle_sig(signum)

    async def _drain(self, signum: signal.Signals) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS), self._own.starting:
                pass  # a claim on its way has arrived, so that no key is left without its job
        if live := self._live():
            await asyncio.wait(live.values(), timeout=self._job_completion_wait)
        await self._cancel_jobs()
        if self.main_task is not None:
            await _end([self.main_task])
        if self.on_stop is not None:
            self.on_stop(signum)

    async def _cancel_jobs(self) -> None:
        """Cancel the bodies, not arq's tasks around them, which have books to close."""
        cancelled: set[asyncio.Task[Any]] = set()
        deadline = time.monotonic() + CLEANUP_SECONDS
        while (live := self._live()) and time.monotonic() < deadline:
            bodies = {self.job_tasks[job_id] for job_id in live if job_id in self.job_tasks}
            for body in bodies - cancelled:
                body.cancel()
            cancelled |= bodies
            await asyncio.wait(live.values(), timeout=0.05)
        for task in live.values():
            task.cancel()
        if live:
            log.warning("worker.jobs_abandoned", jobs=sorted(live))
            await asyncio.wait(live.values(), timeout=FAREWELL_SECONDS)

    async def close(self) -> None:
        """Drain, give back every key of ours, call `on_shutdown` if `on_startup` was, disconnect.

        Raises nothing that Redis or `on_shutdown` raise: the process ends well.
        """
        if self._pool is None:
            return
        self.handle_sig(signal.SIGUSR1)
        await cast("asyncio.Task[None]", self._own.draining)
        await self._rest()
        await self._survives(self._farewell())
        await self._survives(self._shut_down())
        with contextlib.suppress(*Trouble):
            await self.pool.aclose(close_connection_pool=True)
        self._pool = None
        log.info("worker.stopped", complete=self.jobs_complete, failed=self.jobs_failed)
        if self._handle_signals:
            # Python gives signals back their default while it ends: a late one would kill us.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def _shut_down(self) -> None:
        if self.on_shutdown is not None and "redis" in self.ctx:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await self.on_shutdown(self.ctx)

    async def _rest(self) -> None:
        for timer in self._own.timers.values():
            timer.cancel()
        await _end(self._own.background)

    async def _farewell(self) -> None:
        self._reap()
        self.tasks.clear()  # what is abandoned is not ours any more
        tails = [in_progress_key_prefix + job_id for job_id in self._own.tails]
        async with asyncio.timeout(FAREWELL_SECONDS):
            await self._let_go()
            await self.pool.delete(self.health_check_key, *tails)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    # redis-py can swallow a cancellation (its timeout of 0 s, at the wrong moment): say it again.
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.2)


def _pairs(flat: list[Any]) -> list[tuple[str, int]]:
    return [(flat[i].decode(), int(flat[i + 1])) for i in range(0, len(flat), 2)]


def install() -> None:
    """Make `arq Settings` build our worker. Called by the front door, once, on import."""
    arq.worker.Worker = SurvivingWorker
