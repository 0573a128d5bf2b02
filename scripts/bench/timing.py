"""Shared by the contenders: when each schedule is due, and a record of each start.

Nothing here is imported from the project: APScheduler runs it in an environment of its own.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

SPREAD = 60  # seconds; so many schedules or more are spread over a minute
EARLY = 0.02  # seconds by which a run may start early and still belong to its tick


def period(count: int) -> int:
    """Seconds between two ticks of one schedule: a minute, or a second for small counts."""
    return SPREAD if count >= SPREAD else 1


def offset_us(number: int, count: int) -> int:
    """Return the offset of the schedule's ticks in the period, in microseconds."""
    return number * period(count) * 1_000_000 // count


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a tick's code: `at` by the wall clock, after `cpu` seconds of its process."""

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
    """Parse a contender's command line: `count`, `record` and the URLs of its servers."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--redis", default="")
    parser.add_argument("--postgres", default="")
    return parser.parse_args()
