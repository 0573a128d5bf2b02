"""Checks the result of a run against the expectations of its source. Pure.

A run is compared with runs some time back, not with the latest ones, so that a slow decline does
not shift the baseline along with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from app.core.enums import HealthReason
from app.sources.coverage import Coverage

NEAREST, FARTHEST = 20, 40  # the baseline: from the 20th to the 40th run back
ENOUGH = 5  # runs in that range that are needed to use it
FEWEST = 3  # earlier runs needed to compare at all
FEW_ROWS = 10  # below this, a field is judged only if it is empty in every row
USUAL = 0.2  # share of baseline rows that must have a field for it to be judged
SURE = 0.9  # the same, with fewer than FEW_ROWS rows


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a run for one source. `records` and `rejected` are numbers of rows."""

    records: int
    rejected: int = 0
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def invalid(self) -> float:
        """The share of rows that were rejected, from 0 to 1."""
        total = self.records + self.rejected
        return self.rejected / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """The expectations for a run of a source. None disables a check.

    `least`: the minimum number of records. `drop`: the share by which the number of records may
    fall below the baseline, if the baseline has at least `many`. `thinning`: the share by which the
    share of rows with a field may fall below the baseline. `filled`: fields that must not be empty
    in any row. `invalid`: the maximum share of rejected rows. `instant`: the field whose newest
    value must not be older than `fresh`.
    """

    least: int | None = None
    drop: float | None = None
    many: int = 0
    thinning: float | None = 0.5
    filled: tuple[str, ...] = ()
    invalid: float | None = None
    instant: str | None = None
    fresh: timedelta | None = None


NOTHING = Expected(thinning=None)


@dataclass(frozen=True, slots=True)
class Breach:
    """An expectation that a run did not meet, with the health reason and a message."""

    reason: HealthReason
    words: str


def judge(
    found: Found, history: Sequence[Found], expected: Expected, now: datetime
) -> tuple[Breach, ...]:
    """Return the expectations that the run did not meet.

    `history`: earlier runs that met their expectations, newest first. The baseline is the median of
    those 20 to 40 runs back; with a shorter history, of its older half, if it has three runs.
    """
    baseline = _baseline(history)
    return (
        *_counted(found, expected),
        *_fresh(found, expected, now),
        *(_dropped(found, baseline, expected) if baseline else ()),
        *(_thinned(found, baseline, expected) if baseline else ()),
    )


def said(breaches: Sequence[Breach]) -> str:
    """Return the messages as one line."""
    return "; ".join(breach.words for breach in breaches)


def worst(breaches: Sequence[Breach]) -> HealthReason | None:
    """Return the main reason: drift before stale data, which may be a consequence of it."""
    reasons = {breach.reason for breach in breaches}
    return next((r for r in (HealthReason.DRIFT, HealthReason.STALE_DATA) if r in reasons), None)


def _baseline(history: Sequence[Found]) -> Sequence[Found]:
    lagged = history[NEAREST - 1 : FARTHEST]
    if len(lagged) >= ENOUGH:
        return lagged
    return history[len(history) // 2 :] if len(history) >= FEWEST else ()


def _counted(found: Found, expected: Expected) -> Sequence[Breach]:
    failed = list[str]()
    if expected.least is not None and found.records < expected.least:
        failed.append(f"{found.records} records; at least {expected.least} are expected")
    if expected.invalid is not None and found.invalid > expected.invalid:
        failed.append(
            f"{_share(found.invalid)} of the records could not be read;"
            f" at most {_share(expected.invalid)} are expected"
        )
    for name in expected.filled:
        empty = found.coverage.empty.get(name, found.coverage.rows)
        if empty:
            failed.append(f"{name} is empty in {empty} of {found.coverage.rows} records")
    return [Breach(HealthReason.DRIFT, message) for message in failed]


def _fresh(found: Found, expected: Expected, now: datetime) -> Sequence[Breach]:
    newest = found.coverage.newest
    if expected.instant is None or expected.fresh is None or not found.coverage.rows:
        return ()
    if newest is not None and now - newest <= expected.fresh:
        return ()
    age = (
        "no record has a timestamp"
        if newest is None
        else f"the newest is {_span(now - newest)} old"
    )
    message = f"{age}; {expected.instant} is expected within {_span(expected.fresh)}"
    return (Breach(HealthReason.STALE_DATA, message),)


def _dropped(found: Found, baseline: Sequence[Found], expected: Expected) -> Sequence[Breach]:
    before = median(run.records for run in baseline)
    if expected.drop is None or before < expected.many:
        return ()
    if found.records >= before * (1 - expected.drop):
        return ()
    message = f"{found.records} records where {before:g} are usual"
    return (Breach(HealthReason.DRIFT, message),)


def _thinned(found: Found, baseline: Sequence[Found], expected: Expected) -> Sequence[Breach]:
    if expected.thinning is None or not found.coverage.rows:
        return ()
    # Only fields present in this run: one that is no longer requested is not an error.
    names = found.coverage.empty
    failed = [name for name in names if _is_thin(found.coverage, baseline, name, expected.thinning)]
    if not failed:
        return ()
    shares = ", ".join(f"{name} {_share(found.coverage.filled(name) or 0)}" for name in failed[:5])
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""  # noqa: PLR2004 - five are listed
    message = f"far fewer records than usual have these fields: {shares}{more}"
    return (Breach(HealthReason.DRIFT, message),)


def _is_thin(coverage: Coverage, baseline: Sequence[Found], name: str, thinning: float) -> bool:
    shares = [s for s in (run.coverage.filled(name) for run in baseline) if s is not None]
    before, now = median(shares) if shares else 0.0, coverage.filled(name) or 0.0
    if coverage.rows < FEW_ROWS:
        return now == 0 and before >= SURE
    return before >= USUAL and now < before * (1 - thinning)


def _share(share: float) -> str:
    return f"{share * 100:.0f} %"


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"  # noqa: PLR2004 - two days
