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

BASELINE_START, BASELINE_END = 20, 40  # the baseline: from the 20th to the 40th run back
MIN_BASELINE_RUNS = 5  # runs in that range that are needed to use it
MIN_HISTORY_RUNS = 3  # earlier runs needed to compare at all
SMALL_SAMPLE_ROWS = 10  # below this, a field is judged only if it is empty in every row
MIN_BASELINE_SHARE = 0.2  # share of baseline rows that must have a field for it to be judged
MIN_SMALL_SAMPLE_SHARE = 0.9  # the same, with fewer than FEW_ROWS rows
_LONGEST_AGE = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class SourceResult:
    """The result of a run for one source. `records` and `rejected` are numbers of rows."""

    records: int
    rejected: int = 0
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def rejected_share(self) -> float:
        """The share of rows that were rejected, from 0 to 1."""
        total = self.records + self.rejected
        return self.rejected / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Expectations:
    """The expectations for a run of a source. None disables a check.

    `min_records`: the minimum number of records. `may_be_empty`: whether a run may have none where
    each of the last runs had some. `max_drop`: the share by which the number of
    records may
    fall below the baseline, if the baseline has at least `drop_min_baseline`. `max_field_drop`:
    the share by which the
    share of rows with a field may fall below the baseline. `required_fields`: fields that must
    not be empty
    in any row. `rejected_share`: the maximum share of rejected rows. `timestamp_field`: the field
    whose newest
    value must not be older than `max_age`.
    """

    min_records: int | None = None
    may_be_empty: bool = True
    max_drop: float | None = None
    drop_min_baseline: int = 0
    max_field_drop: float | None = 0.5
    required_fields: tuple[str, ...] = ()
    max_rejected_share: float | None = None
    timestamp_field: str | None = None
    max_age: timedelta | None = None

    def future_after(self, now: datetime) -> datetime:
        """Return the instant after which a timestamp is of the future, and says nothing of age."""
        return now + min(self.max_age or _LONGEST_AGE, _LONGEST_AGE)


NO_EXPECTATIONS = Expectations(max_field_drop=None)


@dataclass(frozen=True, slots=True)
class Breach:
    """An expectation that a run did not meet, with the health reason and a message."""

    reason: HealthReason
    message: str


def check(
    found: SourceResult, history: Sequence[SourceResult], expected: Expectations, now: datetime
) -> tuple[Breach, ...]:
    """Return the expectations that the run did not meet.

    `history`: earlier runs that met their expectations, newest first. The baseline is the median of
    those 20 to 40 runs back; with a shorter history, of its older half, if it has three runs.
    """
    baseline = _baseline(history)
    return (
        *_counted(found, expected),
        *_emptied(found, history, expected),
        *_fresh(found, expected, now),
        *(_dropped(found, baseline, expected) if baseline else ()),
        *(_thinned(found, baseline, expected) if baseline else ()),
    )


def main_reason(breaches: Sequence[Breach]) -> HealthReason | None:
    """Return the main reason: drift before stale data, which may be a consequence of it."""
    reasons = {breach.reason for breach in breaches}
    return next((r for r in (HealthReason.DRIFT, HealthReason.STALE_DATA) if r in reasons), None)


def _baseline(history: Sequence[SourceResult]) -> Sequence[SourceResult]:
    lagged = history[BASELINE_START - 1 : BASELINE_END]
    if len(lagged) >= MIN_BASELINE_RUNS:
        return lagged
    return history[len(history) // 2 :] if len(history) >= MIN_HISTORY_RUNS else ()


def _counted(found: SourceResult, expected: Expectations) -> Sequence[Breach]:
    failed = list[str]()
    if expected.min_records is not None and found.records < expected.min_records:
        failed.append(f"{found.records} records; at least {expected.min_records} are expected")
    if (
        expected.max_rejected_share is not None
        and found.rejected_share > expected.max_rejected_share
    ):
        failed.append(
            f"{_share(found.rejected_share)} of the records could not be read;"
            f" at most {_share(expected.max_rejected_share)} are expected"
        )
    for name in expected.required_fields:
        empty = found.coverage.empty.get(name, found.coverage.rows)
        if empty:
            failed.append(f"{name} is empty in {empty} of {found.coverage.rows} records")
    return [Breach(HealthReason.DRIFT, message) for message in failed]


def _emptied(
    found: SourceResult, history: Sequence[SourceResult], expected: Expectations
) -> Sequence[Breach]:
    last = history[:MIN_HISTORY_RUNS]
    if expected.may_be_empty or found.records or not last or not all(run.records for run in last):
        return ()
    counts = ", ".join(f"{run.records}" for run in last)
    message = f"no records where the last runs had {counts}"
    return (Breach(HealthReason.DRIFT, message),)


def _fresh(found: SourceResult, expected: Expectations, now: datetime) -> Sequence[Breach]:
    newest = found.coverage.newest
    if expected.timestamp_field is None or expected.max_age is None or not found.coverage.rows:
        return ()
    if newest is None and found.coverage.future:
        return ()  # a list of what is to come
    if newest is not None and now - newest <= expected.max_age:
        return ()
    age = (
        "no record has a timestamp"
        if newest is None
        else f"the newest is {_span(now - newest)} old"
    )
    message = f"{age}; {expected.timestamp_field} is expected within {_span(expected.max_age)}"
    return (Breach(HealthReason.STALE_DATA, message),)


def _dropped(
    found: SourceResult, baseline: Sequence[SourceResult], expected: Expectations
) -> Sequence[Breach]:
    before = median(run.records for run in baseline)
    if expected.max_drop is None or before < expected.drop_min_baseline:
        return ()
    if found.records >= before * (1 - expected.max_drop):
        return ()
    message = f"{found.records} records where {before:g} are usual"
    return (Breach(HealthReason.DRIFT, message),)


def _thinned(
    found: SourceResult, baseline: Sequence[SourceResult], expected: Expectations
) -> Sequence[Breach]:
    if expected.max_field_drop is None or not found.coverage.rows:
        return ()
    # Only fields present in this run: one that is no longer requested is not an error.
    names = found.coverage.empty
    failed = [
        name for name in names if _is_thin(found.coverage, baseline, name, expected.max_field_drop)
    ]
    if not failed:
        return ()
    shares = ", ".join(
        f"{name} {_share(found.coverage.filled_share(name) or 0)}" for name in failed[:5]
    )
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""  # noqa: PLR2004 - five are listed
    message = f"far fewer records than usual have these fields: {shares}{more}"
    return (Breach(HealthReason.DRIFT, message),)


def _is_thin(
    coverage: Coverage, baseline: Sequence[SourceResult], name: str, thinning: float
) -> bool:
    shares = [s for s in (run.coverage.filled_share(name) for run in baseline) if s is not None]
    before, now = median(shares) if shares else 0.0, coverage.filled_share(name) or 0.0
    if coverage.rows < SMALL_SAMPLE_ROWS:
        return now == 0 and before >= MIN_SMALL_SAMPLE_SHARE
    return before >= MIN_BASELINE_SHARE and now < before * (1 - thinning)


def _share(share: float) -> str:
    return f"{share * 100:.0f} %"


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"  # noqa: PLR2004 - two days
