"""The worker processes of a chaos run, each with its own log."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.embedded.process import Command
from scripts.drill import clock_steps
from scripts.drill.servers import Span

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. `how` names what ended it, or is None while nothing was sent to it.

    `clock`: the file by which its clock is stepped.
    """

    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    clock: Path
    skew: float
    started_at: datetime
    how: str | None = None
    signalled_at: datetime | None = None
    exited_at: datetime | None = None
    freezes: list[Span] = field(default_factory=list[Span])
    frozen_since: datetime | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        """Return whether the process runs; records `exited_at` when first seen ended."""
        if self.process.poll() is not None and self.exited_at is None:
            self.exited_at = datetime.now(UTC)
        return self.exited_at is None

    def terminate(self, number: signal.Signals, how: str) -> None:
        """Send a terminating signal and record why and when."""
        self.how, self.signalled_at = how, datetime.now(UTC)
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP the process."""
        self.frozen_since = datetime.now(UTC)
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT the process if it is frozen and still runs."""
        if self.frozen_since is None:
            return
        self.freezes.append((self.frozen_since, datetime.now(UTC)))
        self.frozen_since = None
        if self.alive():
            self.process.send_signal(signal.SIGCONT)

    def log_events(self) -> list[dict[str, Any]]:
        """Return the lines of its log; one that is not JSON is `{"event": line}`."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [_parse(line) for line in lines if line.strip()]

    def ready_at(self) -> datetime | None:
        """Return when it logged `worker.started`, or None."""
        for event in self.log_events():
            if event["event"] == "worker.started":
                return datetime.fromisoformat(event["timestamp"])
        return None


def _parse(line: str) -> dict[str, Any]:
    try:
        event: Any = json.loads(line)
        return {"event": event["event"], **event}
    except (ValueError, TypeError, LookupError):
        return {"event": line}


class WorkerPool:
    """A fixed number of worker slots, and every process that has run in them."""

    def __init__(self, size: int, folder: Path, settings: Mapping[str, str]) -> None:
        folder.mkdir()
        self.size = size
        self.processes: list[WorkerProcess] = []
        self._folder = folder
        self._settings = settings
        self._faketime = clock_steps.library()
        self._current: dict[int, WorkerProcess] = {}

    def running(self, slot: int) -> WorkerProcess | None:
        """Return the slot's process if it runs and was not asked to end."""
        worker = self._current.get(slot)
        return worker if worker is not None and worker.alive() and worker.how is None else None

    def count(self, slot: int) -> int:
        """Return how many processes the slot has had."""
        return sum(worker.slot == slot for worker in self.processes)

    def start(self, slot: int, skew: float) -> None:
        """Start a worker in the slot unless one runs; `skew` is its clock error in seconds."""
        if self.running(slot) is not None:
            return
        log = self._folder / f"worker-{slot}.{self.count(slot)}.log"
        clock = log.with_suffix(".clock")
        stepped = clock_steps.environment(clock, self._faketime)
        module = "scripts.drill.clock_steps" if self._faketime is None else "arq"
        arq = [sys.executable, "-m", module, "app.workers.Settings"]
        # The launcher ends the worker if this process is killed.
        command = Command(arq, self._folder, log)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                command.command_line(),
                cwd=self._folder,
                env={
                    **self._settings,
                    **stepped,
                    "CLOCK_SKEW_SECONDS": str(skew),
                    "PYTHONPATH": str(ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = WorkerProcess(slot, process, log, clock, skew, datetime.now(UTC))
        self._current[slot] = worker
        self.processes.append(worker)

    def ended_unexpectedly(self) -> list[WorkerProcess]:
        """Return the processes that ended although no signal was sent to them."""
        return [worker for worker in self.processes if not worker.alive() and worker.how is None]

    def kill_all(self) -> None:
        """kill -9 every process that is left, frozen or not."""
        for worker in self.processes:
            if worker.alive():
                worker.process.kill()
                worker.process.wait()
