"""The clock of a drill's worker steps when the drill says so, with libfaketime and without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.drill import clock_steps
from scripts.drill.plan import Disruption, generate
from scripts.drill.worker_processes import ROOT

SHOWS = """
import select, sys, time
print(time.time() - float(sys.stdin.readline()), time.monotonic(), flush=True)
sys.stdin.readline()
select.select([], [], [], 2.5)  # libfaketime refuses time.sleep after a step back
print(time.time() - float(sys.stdin.readline()), time.monotonic(), flush=True)
"""
REPLACED = """
import os, time
from pathlib import Path
from scripts.drill import clock_steps
time.time = clock_steps.stepped_clock(Path(os.environ[clock_steps.OFFSET_FILE]), time.time)
"""
LIBRARY = clock_steps.library()


@pytest.mark.parametrize(
    "faketime",
    [
        None,
        pytest.param(LIBRARY, marks=pytest.mark.skipif(not LIBRARY, reason="no libfaketime")),
    ],
    ids=["replaced", "libfaketime"],
)
def test_a_step_moves_the_wall_clock_of_a_running_process_and_no_other_clock(
    tmp_path: Path, faketime: Path | None
) -> None:
    import time  # noqa: PLC0415 - the machine's clock

    file = tmp_path / "worker.clock"
    env = {**clock_steps.environment(file, faketime), "PYTHONPATH": str(ROOT)}
    shows = SHOWS if faketime else REPLACED + SHOWS
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", shows],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked(line: str) -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line)
            process.stdin.flush()
            return [float(word) for word in process.stdout.readline().split()]

        right, before = asked(f"{time.time()}\n")
        clock_steps.step(file, -3_600)
        wrong, after = asked(f"\n{time.time()}\n")

    assert abs(right) < 5
    assert abs(wrong + 3_600) < 5
    assert 0 < after - before < 15


def test_clocks_step_both_ways_by_little_and_by_much() -> None:
    steps = {p.seconds for p in generate(1, 3_600, 3, 3.0) if p.kind is Disruption.CLOCK}

    assert {-3_600.0, -300.0, -5.0, 5.0, 300.0, 3_600.0} <= steps
