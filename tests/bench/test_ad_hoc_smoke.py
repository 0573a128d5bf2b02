"""How the benchmark of ad-hoc jobs counts, and that ours runs to its end. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench import ad_hoc
from scripts.bench.ad_hoc import Turn
from scripts.bench.timing import Start

ROOT = Path(__file__).parents[2]


def test_the_latency_is_the_time_from_enqueueing_to_the_first_start() -> None:
    enqueued = [Start(number=0, at=10.0, cpu=0), Start(1, 20.0, 0), Start(2, 30.0, 0)]
    started = [Start(0, 10.5, 0), Start(1, 20.005, 0), Start(1, 20.9, 0)]

    late, lost = ad_hoc.latencies(enqueued, started, first=1)

    assert late == [pytest.approx(5.0)]
    assert lost == 1


def test_a_core_second_is_what_worker_and_postgres_spend() -> None:
    turns = [Turn([1.0], 0, 100.0, 3.0, 1.0), Turn([2.0, 9.0], 1, 300.0, 5.0, 1.0)]

    found = ad_hoc.figures(turns)

    assert found["jobs_per_core_second"] == 200.0
    assert (found["p99_ms"], found["lost"]) == (5.0, 1)


@pytest.mark.timeout(300)
def test_ours_executes_every_job() -> None:
    options = [
        "--only",
        "ours",
        "--rounds",
        "1",
        "--count",
        "5",
        "--gap",
        "0.01",
        "--jobs",
        "15",
        "--json",
    ]

    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "scripts.bench.ad_hoc", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"]["lost"] == 0
    assert found["ours"]["jobs_per_core_second"] > 0
