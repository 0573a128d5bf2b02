"""What a source is expected to bring, and in which of that a run failed it. Pure.

A run is compared with runs of a while ago, not with the last ones: what goes bad slowly would drag
those along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from app.coverage import Coverage
from app.words import HealthReason

NEAREST, FARTHEST = 20, 40  # runs back; between them lies what a run is compared with
ENOUGH = 5  # runs that the median of is taken, if that many are so far back
FEWEST = 3  # runs in all, without which nothing is compared
FEW_ROWS = 10  # of which fields are judged only if they are empty altogether
USUAL = 0.2  # share of rows that usually have a field, below which its emptiness says nothing
SURE = 0.9  # the same, where there are few rows


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found of one source. `records` and `rejected` are numbers of rows."""

    records: int
    rejected: int = 0
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def invalid(self) -> float:
        """The share of rows that could not be read, from 0 to 1."""
        given = self.records + self.rejected
        return self.rejected / given if given else 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run of a source must have found.

    `least`: records. `drop`: by which share there may be fewer than usual, where `many` are usual;
    so for the fields in `thinning`, of the share of rows that have them.
    `filled`: fields that must not be empty in any row.
    `invalid`: the share of rows that may be unreadable.
    `instant`: the field whose newest value must not be older than `fresh`.
    None, for any of them, is whatever it may be.
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
    """An expectation that a run did not meet. `reason` is as health says it."""

    reason: HealthReason
    words: str


def judge(
    found: Found, history: Sequence[Found], expected: Expected, now: datetime
) -> tuple[Breach, ...]:
    """In what the run failed what is expected of it.

    `history`: earlier runs that met their expectations, newest first. What is usual is the median
    of those 20 to 40 runs back; with fewer, of the older half of what there is, down to three runs.
    """
    usual = _usual(history)
    return (
        *_counted(found, expected),
        *_fresh(found, expected, now),
        *(_dropped(found, usual, expected) if usual else ()),
        *(_thinned(found, usual, expected) if usual else ()),
    )


def said(breaches: Sequence[Breach]) -> str:
    """All of them in one line."""
    return "; ".join(breach.words for breach in breaches)


def worst(breaches: Sequence[Breach]) -> HealthReason | None:
    """The one word for them all: drift goes before stale data, which may be its consequence."""
    reasons = {breach.reason for breach in breaches}
    return next((r for r in (HealthReason.DRIFT, HealthReason.STALE_DATA) if r in reasons), None)


def _usual(history: Sequence[Found]) -> Sequence[Found]:
    lagged = history[NEAREST - 1 : FARTHEST]
    if len(lagged) >= ENOUGH:
        return lagged
    return history[len(history) // 2 :] if len(history) >= FEWEST else ()


def _counted(found: Found, expected: Expected) -> Sequence[Breach]:
    broken = list[str]()
    if expected.least is not None and found.records < expected.least:
        broken.append(f"{found.records} records; at least {expected.least} are expected")
    if expected.invalid is not None and found.invalid > expected.invalid:
        broken.append(
            f"{_share(found.invalid)} of the records could not be read;"
            f" at most {_share(expected.invalid)} are expected"
        )
    for name in expected.filled:
        empty = found.coverage.empty.get(name, found.coverage.rows)
        if empty:
            broken.append(f"{name} is empty in {empty} of {found.coverage.rows} records")
    return [Breach(HealthReason.DRIFT, words) for words in broken]


def _fresh(found: Found, expected: Expected, now: datetime) -> Sequence[Breach]:
    newest = found.coverage.newest
    if expected.instant is None or expected.fresh is None or not found.coverage.rows:
        return ()
    if newest is not None and now - newest <= expected.fresh:
        return ()
    age = (
        "no record says when it is from"
        if newest is None
        else f"the newest is {_age(now, newest)} old"
    )
    words = f"{age}; {expected.instant} is expected within {_span(expected.fresh)}"
    return (Breach(HealthReason.STALE_DATA, words),)


def _dropped(found: Found, usual: Sequence[Found], expected: Expected) -> Sequence[Breach]:
    before = median(run.records for run in usual)
    if expected.drop is None or before < expected.many:
        return ()
    if found.records >= before * (1 - expected.drop):
        return ()
    words = f"{found.records} records where {before:g} are usual"
    return (Breach(HealthReason.DRIFT, words),)


def _thinned(found: Found, usual: Sequence[Found], expected: Expected) -> Sequence[Breach]:
    if expected.thinning is None or not found.coverage.rows:
        return ()
    # A field that is not asked for any more is missed by nobody.
    names = found.coverage.empty
    broken = [name for name in names if _is_thin(found.coverage, usual, name, expected.thinning)]
    if not broken:
        return ()
    told = ", ".join(f"{name} {_share(found.coverage.filled(name) or 0)}" for name in broken[:5])
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""  # noqa: PLR2004 - as above
    words = f"far fewer records than usual have these fields: {told}{more}"
    return (Breach(HealthReason.DRIFT, words),)


def _is_thin(coverage: Coverage, usual: Sequence[Found], name: str, thinning: float) -> bool:
    shares = [s for s in (run.coverage.filled(name) for run in usual) if s is not None]
    before, now = median(shares) if shares else 0.0, coverage.filled(name) or 0.0
    if coverage.rows < FEW_ROWS:
        return now == 0 and before >= SURE
    return before >= USUAL and now < before * (1 - thinning)


def _share(share: float) -> str:
    return f"{share * 100:.0f} %"


def _age(now: datetime, then: datetime) -> str:
    return _span(now - then)


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"  # noqa: PLR2004 - two days
