"""The workers: real processes, each life with a log of its own."""

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
from scripts.storm.servers import Span

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Life:
    """One worker process from its start to its end. `how`: what we did to it, if anything."""

    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    skew: float
    born: datetime
    how: str | None = None
    struck: datetime | None = None
    died: datetime | None = None
    naps: list[Span] = field(default_factory=list[Span])
    asleep: datetime | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        """Is it still there? Notes when it is seen to have gone."""
        if self.process.poll() is not None and self.died is None:
            self.died = datetime.now(UTC)
        return self.died is None

    def strike(self, number: signal.Signals, how: str) -> None:
        """Send a signal that ends it."""
        self.how, self.struck = how, datetime.now(UTC)
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.asleep = datetime.now(UTC)
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT, if it sleeps and still lives."""
        if self.asleep is None:
            return
        self.naps.append((self.asleep, datetime.now(UTC)))
        self.asleep = None
        if self.alive():
            self.process.send_signal(signal.SIGCONT)

    def words(self) -> list[dict[str, Any]]:
        """Its log, line by line; what is not JSON is `{"event": line}`."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [_read(line) for line in lines if line.strip()]

    def up_since(self) -> datetime | None:
        """When it said that it had started."""
        for said in self.words():
            if said["event"] == "worker.started":
                return datetime.fromisoformat(said["timestamp"])
        return None


def _read(line: str) -> dict[str, Any]:
    try:
        said: Any = json.loads(line)
        return {"event": said["event"], **said}
    except (ValueError, TypeError, LookupError):
        return {"event": line}


class Crew:
    """N places for workers, and every life there was."""

    def __init__(self, size: int, folder: Path, settings: Mapping[str, str]) -> None:
        folder.mkdir()
        self.size = size
        self.lives: list[Life] = []
        self._folder = folder
        self._settings = settings
        self._now: dict[int, Life] = {}

    def at(self, slot: int) -> Life | None:
        """The worker in that place, if it lives and nobody has told it to go."""
        life = self._now.get(slot)
        return life if life is not None and life.alive() and life.how is None else None

    def count(self, slot: int) -> int:
        """How many lives this place has had."""
        return sum(life.slot == slot for life in self.lives)

    def start(self, slot: int, skew: float) -> None:
        """Fill a place, unless it is filled."""
        if self.at(slot) is not None:
            return
        log = self._folder / f"worker-{slot}.{self.count(slot)}.log"
        arq = [sys.executable, "-m", "arq", "app.workers.Settings"]
        # The launcher ties each worker's life to ours, should we be killed.
        command = Command(arq, self._folder, log)
        with log.open("wb") as words:
            process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                command.launched(),
                cwd=self._folder,
                env={**self._settings, "CLOCK_SKEW_SECONDS": str(skew), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        life = Life(slot, process, log, skew, datetime.now(UTC))
        self._now[slot] = life
        self.lives.append(life)

    def alone(self) -> list[Life]:
        """Those that ended although nobody had told them to."""
        return [life for life in self.lives if not life.alive() and life.how is None]

    def end(self) -> None:
        """kill -9 whoever is left, asleep or not."""
        for life in self.lives:
            if life.alive():
                life.process.kill()
                life.process.wait()
