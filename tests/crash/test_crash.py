"""Wherever a worker dies: one tick, one run, records as if once. Real processes, real servers."""

from collections.abc import Sequence

import pytest

from scripts.standin.testing import Standin
from tests.crash.conftest import CASES
from tests.crash.harness import Case, Left

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

Events = Sequence[tuple[str, int]]
Matrix = dict[Case | None, Left | Exception]

ONCE: Events = [("started", 1), ("finished", 1)]
REQUEUED: Events = [("requeued", 2), ("started", 2), ("finished", 2)]
LOST: Events = [("started", 1), ("lost", 1), ("started", 2), ("finished", 2)]
HANDED_BACK: Events = [("started", 1), ("cancelled", 1), ("started", 2), ("finished", 2)]

IN_THE_RUN = ("after_claim", "after_page_1", "after_page_3")
EXPECTED: dict[str, Events] = {
    "after_tick_insert-SIGKILL": ONCE,
    "after_tick_insert-SIGTERM": ONCE,
    "after_commit_before_enqueue-SIGKILL": REQUEUED,
    "after_commit_before_enqueue-SIGTERM": REQUEUED,
    "after_enqueue-SIGKILL": ONCE,
    "after_enqueue-SIGTERM": ONCE,
    **{f"{moment}-SIGKILL": LOST for moment in IN_THE_RUN},
    **{f"{moment}-SIGTERM": HANDED_BACK for moment in IN_THE_RUN},
    "before_outcome-SIGKILL": LOST,
    "before_outcome-SIGTERM": ONCE,
    "after_outcome_before_health-SIGKILL": ONCE,
    "after_outcome_before_health-SIGTERM": ONCE,
}
COUNTERS = ("events_scraped", "prices", "pages", "rejected", "inserted", "changed", "unchanged")


@pytest.fixture
def calm(matrix: Matrix) -> Left:
    """What a run leaves behind when nobody dies."""
    return _left(matrix, None)


@pytest.fixture
def left(matrix: Matrix, case: Case) -> Left:
    return _left(matrix, case)


def _left(matrix: Matrix, case: Case | None) -> Left:
    left = matrix[case]
    if isinstance(left, Exception):
        raise left
    return left


def test_a_calm_run_stores_the_pretend_world(calm: Left, crash_web: Standin) -> None:
    listed = {(s, m.kickoff) for s, board in crash_web.world.listed.items() for m in board}

    assert calm.run["status"] == "success"
    assert len(calm.tables["odds_events"]) == 3 * crash_web.world.events
    assert {(row[0], row[-1]) for row in calm.tables["odds_events"]} == listed
    assert calm.tables["odds_price_changes"] == calm.tables["odds_prices"]
    assert calm.events == ONCE
    assert calm.survivors == [0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_after_a_crash_there_is_one_tick_one_run_and_every_record_once(
    case: Case, left: Left, calm: Left
) -> None:
    assert [account for account in left.accounts if not account.consistent] == []
    assert left.events == EXPECTED[str(case)]
    assert left.run["status"] == "success"
    assert left.run["attempt"] == left.events[-1][1]
    assert left.running == 0
    assert left.tables == calm.tables
    assert left.rejected == calm.rejected
    assert _counters(left) == _counters(calm)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_worker_told_to_stop_ends_well_and_so_do_those_that_go_on(case: Case, left: Left) -> None:
    assert left.victim == (0 if case.signal == "SIGTERM" else -9)
    assert set(left.survivors) == {0}
    assert "Traceback" not in left.logs


def _counters(left: Left) -> dict[str, int]:
    return {name: left.run["stats"][name] for name in COUNTERS}
