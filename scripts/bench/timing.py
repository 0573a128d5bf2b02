"""What the contenders share: when each schedule is due, and the moment its code began.

Nothing here is imported from the project: APScheduler runs it in an environment of its own.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

SPREAD = 60  # seconds; so many schedules or more are spread over a minute
EARLY = 0.02  # seconds by which a run may come early and still be taken for its own tick


def period(count: int) -> int:
    """Seconds between two ticks of one schedule: a minute, or a second if there are but a few."""
    return SPREAD if count >= SPREAD else 1


def offset_us(number: int, count: int) -> int:
    """Where in the period the schedule's instants lie, in microseconds."""
    return number * period(count) * 1_000_000 // count


@dataclass(frozen=True, slots=True)
class Start:
    """The code of a tick began: `at` by the wall clock, after `cpu` seconds of its process."""

    number: int
    at: float
    cpu: float


class Stopwatch:
    """Writes each start to a file at once, so that none is lost when the process ends."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def start(self, number: int) -> None:
        """Record a start; call it first in a run."""
        os.write(self._file, b"%d %.6f %.6f\n" % (number, time.time(), time.process_time()))


def read(path: Path) -> list[Start]:
    """Return all recorded starts, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    parts = [line.split() for line in lines]
    return [Start(int(number), float(at), float(cpu)) for number, at, cpu in parts]


def asked(about: str) -> argparse.Namespace:
    """A contender's command line: `count`, `record` and the addresses of its servers."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--redis", default="")
    parser.add_argument("--postgres", default="")
    return parser.parse_args()
