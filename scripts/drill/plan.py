"""The random schedule of disruptions of a chaos run. Pure: the same seed gives the same plan."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Disruption(StrEnum):
    """What can happen. The first six affect workers, the others servers and sites."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    FREEZE = "SIGSTOP"
    BLACKOUT = "kill -9 of all"
    DEPLOY = "SIGTERM of all"
    CLOCK = "clock step"
    REDIS_KILL = "Redis kill -9"
    REDIS_STOP = "Redis restart"
    REDIS_FREEZE = "Redis SIGSTOP"
    REDIS_FLUSH = "Redis FLUSHALL"
    POSTGRES_FAST = "Postgres restart"
    POSTGRES_IMMEDIATE = "Postgres immediate"
    POSTGRES_FREEZE = "Postgres SIGSTOP"
    PRICES = "prices move"


_WEIGHTS = {
    Disruption.KILL: 7,
    Disruption.TERM: 5,
    Disruption.FREEZE: 5,
    Disruption.BLACKOUT: 1,
    Disruption.DEPLOY: 2,
    Disruption.CLOCK: 5,
    Disruption.REDIS_KILL: 2,
    Disruption.REDIS_STOP: 2,
    Disruption.REDIS_FREEZE: 1,
    Disruption.REDIS_FLUSH: 3,
    Disruption.POSTGRES_FAST: 2,
    Disruption.POSTGRES_IMMEDIATE: 2,
    Disruption.POSTGRES_FREEZE: 2,
    Disruption.PRICES: 5,
}
_GAP = (0.3, 3.0)
_SKEWS = (30.0, -30.0, 0.0)
_STEPS = (-86_400.0, -3_600.0, -300.0, -5.0, 5.0, 300.0, 3_600.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class PlannedDisruption:
    """One planned disruption: `at` seconds from the start, of `worker`, for `seconds`.

    Of a clock step, `seconds` is how far the worker's clock is set ahead of the machine's.
    """

    at: float
    kind: Disruption
    worker: int
    seconds: float


def generate(seed: int, seconds: float, workers: int, lease: float) -> list[PlannedDisruption]:
    """Return the disruptions of a chaos run of `seconds`, in order of time.

    `lease` is the workers' lease in seconds: freezes are chosen around it.
    """
    rng = Random(f"storm {seed}")  # noqa: S311 - not a secret
    planned: list[PlannedDisruption] = []
    at = rng.uniform(*_GAP)
    while at < seconds:
        (kind,) = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        planned.append(
            PlannedDisruption(at, kind, rng.randrange(workers), _duration(rng, kind, lease))
        )
        at += rng.uniform(*_GAP)
    return planned


def _duration(rng: Random, kind: Disruption, lease: float) -> float:
    if kind is Disruption.FREEZE:
        return rng.choice((0.3, 0.8, 1.2, 2.5)) * lease
    if kind is Disruption.BLACKOUT:
        return rng.uniform(0.5, 4 * lease)
    if kind is Disruption.DEPLOY:
        return 0.0
    if kind is Disruption.CLOCK:
        return rng.choice(_STEPS)
    return rng.uniform(0.2, 4.0)


def clock_skew(seed: int, worker: int, start: int) -> float:
    """Return the clock error in seconds of a worker's nth process; 0 but for the first worker."""
    if worker:
        return 0.0
    return Random(f"clock {seed} {start}").choice(_SKEWS)  # noqa: S311 - not a secret
