"""The plan of a chaos run follows from its seed."""

from scripts.drill import plan


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan.generate(7, 60, 3, 3.0) == plan.generate(7, 60, 3, 3.0)


def test_another_seed_gives_another_plan() -> None:
    assert plan.generate(7, 60, 3, 3.0) != plan.generate(8, 60, 3, 3.0)


def test_disruptions_are_in_order_and_within_the_run() -> None:
    times = [planned.at for planned in plan.generate(7, 300, 3, 3.0)]

    assert times == sorted(times)
    assert times[-1] < 300


def test_only_the_first_worker_has_a_wrong_clock() -> None:
    skews = {
        worker: {plan.clock_skew(7, worker, start) for start in range(20)} for worker in range(3)
    }

    assert skews == {0: {-30.0, 0.0, 30.0}, 1: {0.0}, 2: {0.0}}


def test_a_long_run_does_everything_that_can_happen_to_each_server() -> None:
    kinds = {planned.kind for planned in plan.generate(7, 600, 3, 3.0)}

    assert kinds == set(plan.Disruption)
    assert {"Postgres SIGSTOP", "Redis SIGSTOP"} <= kinds
