"""What befalls whom, and when. Pure: the same seed makes the same storm."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Blow(StrEnum):
    """What can happen. The first five befall workers, the others what they stand on."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    FREEZE = "SIGSTOP"
    BLACKOUT = "kill -9 of all"
    DEPLOY = "SIGTERM of all"
    REDIS_KILL = "Redis kill -9"
    REDIS_STOP = "Redis restart"
    REDIS_FREEZE = "Redis SIGSTOP"
    REDIS_FLUSH = "Redis FLUSHALL"
    POSTGRES_FAST = "Postgres restart"
    POSTGRES_IMMEDIATE = "Postgres immediate"
    PRICES = "prices move"


_WEIGHTS = {
    Blow.KILL: 7,
    Blow.TERM: 5,
    Blow.FREEZE: 5,
    Blow.BLACKOUT: 1,
    Blow.DEPLOY: 2,
    Blow.REDIS_KILL: 2,
    Blow.REDIS_STOP: 2,
    Blow.REDIS_FREEZE: 1,
    Blow.REDIS_FLUSH: 3,
    Blow.POSTGRES_FAST: 2,
    Blow.POSTGRES_IMMEDIATE: 2,
    Blow.PRICES: 5,
}
_GAP = (0.3, 3.0)
_SKEWS = (30.0, -30.0, 0.0)


@dataclass(frozen=True, slots=True)
class Act:
    """One blow: at so many seconds from the start, against this worker, lasting so long."""

    at: float
    blow: Blow
    worker: int
    seconds: float


def storm(seed: int, seconds: float, workers: int, lease: float) -> list[Act]:
    """The acts of a storm of `seconds`, in order. `lease` in seconds: what must be outlasted."""
    dice = Random(f"storm {seed}")  # noqa: S311 - a storm, not a secret
    acts: list[Act] = []
    at = dice.uniform(*_GAP)
    while at < seconds:
        (blow,) = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        acts.append(Act(at, blow, dice.randrange(workers), _lasting(dice, blow, lease)))
        at += dice.uniform(*_GAP)
    return acts


def _lasting(dice: Random, blow: Blow, lease: float) -> float:
    if blow is Blow.FREEZE:
        return dice.choice((0.3, 0.8, 1.2, 2.5)) * lease
    if blow is Blow.BLACKOUT:
        return dice.uniform(0.5, 4 * lease)
    if blow is Blow.DEPLOY:
        return 0.0
    return dice.uniform(0.2, 4.0)


def skew(seed: int, worker: int, life: int) -> float:
    """Seconds by which a worker's clock is wrong in its nth life. Only the first worker's is."""
    if worker:
        return 0.0
    return Random(f"clock {seed} {life}").choice(_SKEWS)  # noqa: S311 - a storm, not a secret
