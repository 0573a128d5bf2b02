"""How the benchmark of ticks counts. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench import ticks, timing
from scripts.bench.timing import Start, Stopwatch


def test_a_start_is_as_late_as_the_time_since_its_own_instant() -> None:
    starts = [Start(number=30, at=60_000_018.005, cpu=1.0), Start(30, 60_000_078.25, 1.5)]

    found = ticks.evaluate(starts, 100, 60_000_000.0, 60_000_120.0)

    mine = sorted(round(late, 3) for late in found.late_ms)
    assert mine == [5.0, 250.0]


def test_a_tick_that_never_started_is_counted() -> None:
    starts = [Start(0, 1_000_000.003, 0.1), Start(0, 1_000_002.003, 0.2)]

    found = ticks.evaluate(starts, 1, 1_000_000.0, 1_000_003.0)

    assert (len(found.late_ms), found.never) == (2, 1)


def test_a_tick_that_starts_a_little_early_keeps_its_own_instant() -> None:
    found = ticks.evaluate([Start(0, 999_999.998, 0.1)], 1, 1_000_000.0, 1_000_001.0)

    assert found.late_ms[0] == pytest.approx(-2.0, abs=0.01)


def test_instants_are_spread_over_a_minute() -> None:
    offsets = [timing.offset_us(number, 1000) for number in range(1000)]

    assert offsets[0] == 0
    assert offsets[-1] == 59_940_000
    assert len(set(offsets)) == 1000


def test_what_a_dead_process_wrote_is_read(tmp_path: Path) -> None:
    record = tmp_path / "record"
    words = f"""
import os, pathlib
from scripts.bench.timing import Stopwatch
Stopwatch(pathlib.Path({str(record)!r})).start(7)
os._exit(1)
"""
    root = Path(timing.__file__).parents[2]

    subprocess.run([sys.executable, "-c", words], cwd=root, check=False)  # noqa: S603 - ours
    Stopwatch(record).start(8)

    assert [start.number for start in timing.read(record)] == [7, 8]


def test_the_figures_keep_their_names() -> None:
    figures = ticks.Figures.of([ticks.Round([1.0, 2.0, 3.0], 0, 4.0, 1.5, 2.5)])
    names: list[str] = [*ticks.CONTENDERS, "bare", "own"]
    contenders = dict.fromkeys(names, figures)

    result = json.loads(json.dumps(ticks.plain({1000: contenders})))

    of_one = {"p50_ms": 2.0, "p99_ms": 3.0}
    assert result == {
        "1000": {"ours": of_one, "arq": of_one, "apscheduler": of_one},
        "ledger_cpu_ms_per_run": 0.0,
        "own_job_cpu_ms_per_run": 0.0,
        "postgres_cpu_ms_per_run": 1.5,
        "wal_kb_per_run": 2.5,
    }
