"""When work in bulk makes way for starts, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from app.queue.starts import AFTER, NextStarts

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
AFTER_S = AFTER.total_seconds()


def starts_at(now: datetime, *instants: datetime) -> NextStarts:
    """The starts as seen at `now`, each expected a second ahead."""
    at = min(instants, default=now) - timedelta(seconds=1)
    found = NextStarts(clock=lambda: at)
    for instant in instants:
        found.expect(instant)
    at = now
    return found


@pytest.mark.parametrize(
    ("before_s", "work_s", "rest_s"),
    [
        (0.3, 0.2, 0.0),  # done before it
        (0.2, 0.2, 0.0),
        (0.15, 0.2, 0.15 + AFTER_S),
        (0.0, 0.2, AFTER_S),
        (-AFTER_S / 2, 0.2, AFTER_S / 2),
        (-AFTER_S, 0.2, 0.0),  # it is over
        (0.15, 0.16, 0.16),  # never longer than the work itself
    ],
)
def test_work_that_would_be_under_way_at_a_start_waits_until_it_is_over(
    before_s: float, work_s: float, rest_s: float
) -> None:
    starts = starts_at(START - timedelta(seconds=before_s), START)

    assert starts.rest(work_s) == pytest.approx(rest_s, abs=1e-6)


def test_the_first_of_several_starts_counts_in_whatever_order_they_are_expected() -> None:
    late, early = START + timedelta(seconds=60), START

    assert starts_at(START, late, early).rest(0.2) == pytest.approx(AFTER_S)
    assert starts_at(START + AFTER, late, early).rest(0.2) == 0.0


def test_without_a_start_nothing_rests() -> None:
    assert starts_at(START).rest(0.2) == 0.0


def test_past_starts_are_forgotten_though_nobody_asks() -> None:
    now = START
    starts = NextStarts(clock=lambda: now)
    for _ in range(1_000):
        now += timedelta(seconds=1)
        starts.expect(now)

    assert len(starts) == 1
