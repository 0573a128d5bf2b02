"""What a worker starts jobs for: announcements, jobs that are due, and slots that become free."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NoReturn

from app.queue.jobs import WAKE_CHANNEL, RedisClient

PING_SECONDS = 5.0  # of silence on the wake connection before it is pinged


@dataclass(slots=True)
class WakeUps:
    """The jobs to start next, and the timers of those that are due later."""

    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _job_ids: dict[str, None] = field(default_factory=dict[str, None])  # in order
    _scan: bool = False  # the queue as well
    _due: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    _timers: dict[int, asyncio.TimerHandle] = field(default_factory=dict[int, asyncio.TimerHandle])

    def wake(self, *job_ids: str, scan: bool = False) -> None:
        """Let these jobs be started, or with `scan` what is due in the queue."""
        self._job_ids.update(dict.fromkeys(job_ids))
        self._scan |= scan
        self._woken.set()

    async def next(self) -> tuple[list[str], bool]:
        """Wait for a wake-up; returns the jobs to start, and whether to scan the queue."""
        await self._woken.wait()
        self._woken.clear()
        job_ids, self._job_ids = list(self._job_ids), {}
        scan, self._scan = self._scan, False
        return job_ids, scan

    def add_timer(self, due_ms: int, delay_ms: int, job_id: str) -> None:
        """Wake the worker for a job after so long; jobs that are due at once share a timer."""
        self._due.setdefault(due_ms, set()).add(job_id)
        if due_ms not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[due_ms] = loop.call_later(delay_ms / 1000, self._timer_fired, due_ms)

    def _timer_fired(self, due_ms: int) -> None:
        # If Redis' clock has not reached it after all, the claim sets another timer.
        self._timers.pop(due_ms)
        self.wake(*self._due.pop(due_ms))

    def cancel_timers(self) -> None:
        """End the timers: no job is started any more."""
        for timer in self._timers.values():
            timer.cancel()

    async def listen(self, redis: RedisClient) -> NoReturn:
        """Take announcements until the connection breaks. Raises RedisError and OSError."""
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(WAKE_CHANNEL)
            ping_sent = False
            while True:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is not None:
                    self._handle(message)
                elif ping_sent:
                    raise TimeoutError("the wake connection does not respond")
                else:
                    await pubsub.ping()
                ping_sent = message is None

    def _handle(self, message: dict[str, Any]) -> None:
        job_id = message["data"] if message["type"] == "message" else b""
        if job_id:
            self.wake(job_id.decode(errors="replace"))
        elif message["type"] != "pong":
            self.wake(scan=True)  # a batch was announced, or we have just subscribed
