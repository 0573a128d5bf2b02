"""A storm is made by its seed alone."""

from scripts.storm import plan


def test_the_same_seed_makes_the_same_storm() -> None:
    assert plan.storm(7, 60, 3, 3.0) == plan.storm(7, 60, 3, 3.0)


def test_another_seed_makes_another_storm() -> None:
    assert plan.storm(7, 60, 3, 3.0) != plan.storm(8, 60, 3, 3.0)


def test_blows_fall_in_order_within_the_storm() -> None:
    times = [act.at for act in plan.storm(7, 300, 3, 3.0)]

    assert times == sorted(times)
    assert times[-1] < 300


def test_only_the_first_worker_has_a_wrong_clock() -> None:
    skews = {worker: {plan.skew(7, worker, life) for life in range(20)} for worker in range(3)}

    assert skews == {0: {-30.0, 0.0, 30.0}, 1: {0.0}, 2: {0.0}}
