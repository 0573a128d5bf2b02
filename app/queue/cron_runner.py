"""Runs cron entries in this process, each start in one process of all that share the entries.

A start is claimed in Redis shortly before it is due, in one round trip with all others of that
half second, and begun by a timer. No queue is read or written. The start that a process has claimed
is lost if it dies before: this is for entries whose lost starts another entry makes good.
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.utils import to_unix_ms
from redis.exceptions import RedisError

from app.core.log import logger
from app.core.tasks import cancel_all
from app.queue.cron import ScheduleCron, utc_now
from app.queue.jobs import Script
from app.queue.starts import NextStarts

AHEAD = timedelta(seconds=0.5)  # how far ahead starts are claimed
MARGIN = 0.1  # seconds before the next start at which it is claimed
CLAIM_SECONDS = 60  # how long after its instant a start stays claimed
BATCH_SIZE = 64  # starts that one round trip may claim, so that processes share those of an instant
RETRY_SECONDS = 0.2
STOP_SECONDS = 1.0  # for what was claimed or runs

_log = logger(__name__)

# Claims up to ARGV[1] of the given starts that nobody has claimed. ARGV: limit, then for each its
# id and the milliseconds for which it stays claimed. Returns the ids that this call has claimed,
# and how many of the given it has looked at.
CLAIM_STARTS = Script("""
local mine, seen = {}, 0
for i = 2, #ARGV, 2 do
  if #mine >= tonumber(ARGV[1]) then break end
  seen = seen + 1
  if redis.call('SET', KEYS[1] .. ARGV[i], 1, 'NX', 'PX', ARGV[i + 1]) then
    mine[#mine + 1] = ARGV[i]
  end
end
return {mine, seen}
""")


@dataclass(slots=True)
class CronRunner:
    """Runs `entries` until `stop`. Errors of Redis and of entries are logged.

    `ctx`: each entry gets a copy of it, with the `job_id` that arq would give. `most`: entries that
    run at once. `heartbeat` is awaited every `beat_seconds`. `starts` expects those of `punctual`
    entries, in whichever process they run.
    """

    redis: ArqRedis
    entries: Sequence[ScheduleCron]
    ctx: dict[str, Any]
    most: int
    heartbeat: Callable[[], Awaitable[None]]
    beat_seconds: float
    clock: Callable[[], datetime] = utc_now
    starts: NextStarts = field(default_factory=NextStarts)
    _slots: asyncio.Semaphore = field(init=False)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _due: list[tuple[datetime, int]] = field(default_factory=list[tuple[datetime, int]])
    _claimed: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _redis_lost_at: float | None = None

    def __post_init__(self) -> None:
        """Note when each entry is due first, from now."""
        self._slots = asyncio.Semaphore(self.most)
        for number, entry in enumerate(self.entries):
            heapq.heappush(self._due, (self._next_start(entry, self.clock()), number))

    async def run(self) -> None:
        """Run the entries until `stop`; then finish what was claimed, for a second."""
        beating = asyncio.create_task(self._beat())
        try:
            while not self._stopped.is_set():
                await self._wait(self._pause())
                if not self._stopped.is_set():
                    await self.claim_due()
            await self.finish(STOP_SECONDS)
        finally:
            await cancel_all([beating, *self._claimed])

    async def claim_due(self) -> None:
        """Claim the starts of the next half second."""
        await self._claim(self._take_due())

    async def finish(self, seconds: float) -> None:
        """Wait for what was claimed, for so many seconds."""
        if self._claimed:
            await asyncio.wait(self._claimed, timeout=seconds)

    def stop(self) -> None:
        """Claim no more starts."""
        self._stopped.set()

    def _pause(self) -> float:
        """Seconds until the next start has to be claimed."""
        if not self._due:
            return self.beat_seconds
        return max((self._due[0][0] - self.clock()).total_seconds() - MARGIN, 0.0)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(min(seconds, self.beat_seconds)):
                    await self._stopped.wait()
            except TimeoutError:
                return

    def _take_due(self) -> list[tuple[str, datetime, ScheduleCron]]:
        """The starts until `AHEAD` from now, as job id, instant and entry."""
        until = self.clock() + AHEAD
        taken: list[tuple[str, datetime, ScheduleCron]] = []
        while self._due and self._due[0][0] < until:
            at, number = self._due[0]
            entry = self.entries[number]
            taken.append((f"{entry.name}:{to_unix_ms(at)}", at, entry))
            heapq.heapreplace(self._due, (self._next_start(entry, at), number))
        return taken

    def _next_start(self, entry: ScheduleCron, after: datetime) -> datetime:
        entry.calculate_next(after)
        if entry.next_run is None:
            raise TypeError(f"{entry.name} has no next run")  # calculate_next sets it
        if entry.punctual:
            self.starts.expect(entry.next_run)
        return entry.next_run

    async def _claim(self, starts: list[tuple[str, datetime, ScheduleCron]]) -> None:
        while starts and not self._stopped.is_set():
            now = self.clock()
            keep = [
                (job_id, round(((at - now).total_seconds() + CLAIM_SECONDS) * 1000))
                for job_id, at, _ in starts
            ]
            flat = [part for start in keep for part in start]
            try:
                mine, seen = await CLAIM_STARTS(
                    self.redis, in_progress_key_prefix, BATCH_SIZE, *flat
                )
            except (RedisError, OSError) as error:  # what is lost so, a dispatch decides
                self._note_loss(error)
                await self._wait(RETRY_SECONDS)
                return
            self._note_return()
            claimed = {job_id.decode() for job_id in mine}
            for job_id, at, entry in starts[:seen]:
                if job_id in claimed:
                    task = asyncio.create_task(self._run_entry(entry, at, job_id))
                    self._claimed.add(task)
                    task.add_done_callback(self._claimed.discard)
            starts = starts[seen:]

    async def _run_entry(self, entry: ScheduleCron, at: datetime, job_id: str) -> None:
        while (early := (at - self.clock()).total_seconds()) > 0:  # noqa: ASYNC110 - the timer has another clock
            await asyncio.sleep(early)
        async with self._slots:
            try:
                async with asyncio.timeout(entry.timeout_s):
                    await entry.coroutine({**self.ctx, "job_id": job_id})
            except Exception:  # noqa: BLE001 - one that fails must not end the others
                _log.exception("cron.failed", entry=entry.name)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.beat_seconds)
            try:
                async with asyncio.timeout(3 * self.beat_seconds):
                    await self.heartbeat()
            except Exception as error:  # noqa: BLE001 - a failing hook must not end the process
                _log.warning("worker.heartbeat_failed", error=repr(error))

    def _note_loss(self, error: Exception) -> None:
        if self._redis_lost_at is None:
            self._redis_lost_at = time.monotonic()
            _log.warning("worker.redis_away", error=type(error).__name__, message=str(error))

    def _note_return(self) -> None:
        if self._redis_lost_at is not None:
            away = time.monotonic() - self._redis_lost_at
            _log.info("worker.redis_back", away_s=round(away, 2))
            self._redis_lost_at = None
