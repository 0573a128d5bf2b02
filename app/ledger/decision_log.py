"""Logs what was decided: each tick of one schedule, or the numbers of a batch."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from app.core import log
from app.core.enums import TickOutcome
from app.scheduling.policy import Decision
from app.store.schedules.decisions import TickDecision

_log = log.logger(__name__)


def log_decision(key: str, decision: Decision) -> None:
    """Log the outcomes of one schedule."""
    for (outcome, reason), group in groupby(decision.outcomes, key=lambda o: (o.outcome, o.reason)):
        decided = list(group)
        log_at = _log.warning if outcome is TickOutcome.MISSED else _log.info
        log_at(
            "tick.decided",
            schedule=key,
            outcome=outcome.value,
            reason=reason and reason.value,
            tick=decided[-1].tick.isoformat(),
            count=len(decided),
        )


def log_decisions(made: Sequence[TickDecision]) -> None:
    """Log how many ticks of a batch had each outcome."""
    counts: Counter[tuple[TickOutcome, str | None]] = Counter()
    for one in made:
        counts.update((tick.outcome, tick.reason) for tick in one.ticks)
        for gap in one.gaps:
            counts[gap.outcome, gap.reason] += gap.count
    for (outcome, reason), count in counts.items():
        log_at = _log.warning if outcome is TickOutcome.MISSED else _log.info
        log_at(
            "ticks.decided",
            schedules=len(made),
            outcome=outcome.value,
            reason=reason and str(reason),
            count=count,
        )
