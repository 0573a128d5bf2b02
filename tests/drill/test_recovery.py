"""How long a run waited for another worker is counted from its own events."""

from datetime import UTC, datetime, timedelta

from scripts.drill import recovery
from scripts.drill.judge import RunEvent
from scripts.drill.recovery import Figures, Termination

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(attempt: int, name: str, seconds: float, pid: int = 1) -> RunEvent:
    return RunEvent("run", attempt, name, at(seconds), pid)


def waited(*events: RunEvent, signalled: float = 10) -> list[float]:
    ends = [Termination(1, at(signalled), at(signalled))]
    return [wait.seconds for wait in recovery.waits(events, ends, lambda _: 0)]


def test_a_run_cut_short_waits_until_another_attempt_begins() -> None:
    assert waited(event(1, "started", 8), event(1, "lost", 13), event(2, "started", 14, pid=2)) == [
        4
    ]


def test_a_run_that_had_ended_before_has_no_wait() -> None:
    assert not waited(event(1, "started", 8), event(1, "finished", 9))


def test_a_run_of_another_worker_has_no_wait() -> None:
    assert not waited(event(1, "started", 8, pid=2), event(2, "started", 14, pid=3))


def test_only_seconds_with_a_worker_up_and_no_server_down_are_possible_ones() -> None:
    possible = recovery.available_seconds(
        ups=[(at(0), at(4)), (at(6), at(9))], downs=[(at(3), at(7))]
    )

    assert possible((at(1), at(8))) == 3


def test_figures_of_nothing_are_unknown() -> None:
    assert Figures.of([]) == Figures(0, None, None)
    assert Figures.of([1, 2, 6]) == Figures(3, 2, 6)
