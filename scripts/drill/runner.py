"""Executes a chaos run: starts everything, applies the disruptions, restores normal operation."""

import heapq
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from scripts.drill import clock_steps, plan
from scripts.drill.plan import Disruption, PlannedDisruption
from scripts.drill.servers import Server, Servers, wait_until
from scripts.drill.web import StandInSites
from scripts.drill.worker_processes import WorkerPool, WorkerProcess

Step = Callable[[], None]

_POLL_SECONDS = 0.05
_START_TIMEOUT = 45.0
_STOP_TIMEOUT = 30.0
_SIGNALS = {
    Disruption.REDIS_KILL: signal.SIGKILL,
    Disruption.REDIS_STOP: signal.SIGTERM,
    Disruption.POSTGRES_FAST: signal.SIGINT,
    Disruption.POSTGRES_IMMEDIATE: signal.SIGQUIT,
}


@dataclass(slots=True)
class ChaosRun:
    """Servers, stand-in sites, workers, and the disruptions still to come."""

    seed: int
    servers: Servers
    web: StandInSites
    crew: WorkerPool
    log: Callable[[str], None]
    disruptions: Counter[Disruption] = field(default_factory=Counter[Disruption])
    _pending: list[tuple[float, int, Step]] = field(default_factory=list[tuple[float, int, Step]])
    _started: float = field(default_factory=time.monotonic)
    _steps: int = 0

    def start_workers(self) -> bool:
        """Start a worker in every empty slot; returns whether all became ready."""
        for slot in range(self.crew.size):
            self._start(slot)
        return wait_until(self._all_up, _START_TIMEOUT)

    def run(self, plan_: Sequence[PlannedDisruption], seconds: float) -> None:
        """Apply each disruption at its time; returns after `seconds`."""
        self._started = time.monotonic()
        for planned in plan_:
            self._schedule(planned.at, partial(self._apply, planned))
        while (now := self._now()) < seconds:
            if self._pending and self._pending[0][0] <= now:
                heapq.heappop(self._pending)[2]()
            else:
                self._restart_unexpectedly_ended()
                time.sleep(_POLL_SECONDS)

    def restore(self) -> bool:
        """Bring up servers and workers that are down or frozen; returns whether all are ready."""
        self._pending.clear()
        for server in (self.servers.postgres, self.servers.redis):
            _bring_up(server)
        for worker in self.crew.processes:
            worker.thaw()
        wait_until(lambda: not self._exiting(), _STOP_TIMEOUT)
        return self.start_workers()

    def stop_workers(self) -> None:
        """Send SIGTERM to all workers, which are idle by now, and wait until they have exited."""
        for slot in range(self.crew.size):
            if worker := self.crew.running(slot):
                worker.terminate(signal.SIGTERM, "idle SIGTERM")
        wait_until(lambda: not self._exiting(), _STOP_TIMEOUT)

    def _apply(self, planned: PlannedDisruption) -> None:
        if planned.kind is Disruption.PRICES:
            self.web.advance(share=0.2)
        elif planned.kind in {Disruption.BLACKOUT, Disruption.DEPLOY}:
            self._signal_all(planned)
        elif planned.kind in _SINGLE_WORKER:
            self._disrupt_one(planned)
        elif not self._disrupt_server(planned):
            return
        self.disruptions[planned.kind] += 1
        self.log(f"{self._now():6.1f} s  {planned.kind}{_duration_text(planned)}")

    def _signal_all(self, planned: PlannedDisruption) -> None:
        number = signal.SIGKILL if planned.kind is Disruption.BLACKOUT else signal.SIGTERM
        for slot in range(self.crew.size):
            if worker := self.crew.running(slot):
                worker.terminate(number, planned.kind)
            self._schedule(self._now() + planned.seconds, partial(self._start, slot))

    def _disrupt_one(self, planned: PlannedDisruption) -> None:
        worker = self._target(planned.worker)
        if worker is None:
            return
        if planned.kind is Disruption.CLOCK:
            clock_steps.step(worker.clock, planned.seconds)
            return
        if planned.kind is Disruption.FREEZE:
            worker.freeze()
            self._schedule(self._now() + planned.seconds, worker.thaw)
            return
        worker.terminate(
            signal.SIGKILL if planned.kind is Disruption.KILL else signal.SIGTERM, planned.kind
        )
        self._schedule(self._now() + planned.seconds, partial(self._start, worker.slot))

    def _target(self, slot: int) -> WorkerProcess | None:
        """Return the worker in that slot, or in the next slot with one that is not frozen."""
        for step in range(self.crew.size):
            worker = self.crew.running((slot + step) % self.crew.size)
            if worker is not None and worker.frozen_since is None:
                return worker
        return None

    def _disrupt_server(self, planned: PlannedDisruption) -> bool:
        server = self.servers.postgres if planned.kind in _POSTGRES else self.servers.redis
        if not server.up:
            return False
        if planned.kind is Disruption.REDIS_FLUSH:
            self.servers.flush()
        elif planned.kind in {Disruption.REDIS_FREEZE, Disruption.POSTGRES_FREEZE}:
            server.freeze()
        else:
            server.terminate(_SIGNALS[planned.kind])
        self._schedule(self._now() + planned.seconds, partial(_bring_up, server))
        return True

    def _start(self, slot: int) -> None:
        self.crew.start(slot, plan.clock_skew(self.seed, slot, self.crew.count(slot)))

    def _all_up(self) -> bool:
        processes = [self.crew.running(slot) for slot in range(self.crew.size)]
        return all(worker is not None and worker.ready_at() for worker in processes)

    def _exiting(self) -> list[WorkerProcess]:
        return [
            worker for worker in self.crew.processes if worker.how is not None and worker.alive()
        ]

    def _restart_unexpectedly_ended(self) -> None:
        for worker in self.crew.ended_unexpectedly():
            worker.how = "by itself"
            self.log(f"[red]worker {worker.slot} ended by itself: {worker.log.name}[/]")
            self._start(worker.slot)

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _schedule(self, when: float, step: Step) -> None:
        self._steps += 1
        heapq.heappush(self._pending, (when, self._steps, step))


def _bring_up(server: Server) -> None:
    if server.frozen:
        server.thaw()
    elif not server.up:
        server.start()


def _duration_text(planned: PlannedDisruption) -> str:
    if planned.kind in {Disruption.PRICES, Disruption.REDIS_FLUSH, Disruption.DEPLOY}:
        return ""
    signed = "+" if planned.kind is Disruption.CLOCK else ""
    return f", {planned.seconds:{signed}.1f} s" + (
        f", worker {planned.worker}" if planned.kind in _SINGLE_WORKER else ""
    )


_POSTGRES = {
    Disruption.POSTGRES_FAST,
    Disruption.POSTGRES_IMMEDIATE,
    Disruption.POSTGRES_FREEZE,
}
_SINGLE_WORKER = {Disruption.KILL, Disruption.TERM, Disruption.FREEZE, Disruption.CLOCK}
