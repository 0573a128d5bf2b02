"""The dashboard's benchmark runs and prints what it promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {"jobs", "ticks", "first_ms", "ms", "cpu_ms", "kept_ms", "sql_ms", "job_ms", "kilobytes"}


@pytest.mark.timeout(120)
def test_a_small_dashboard_is_measured() -> None:
    small = ["--jobs", "3", "--ticks", "90", "--rounds", "1", "--limit", "100000", "--json"]
    small += ["--changes", "0"]

    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "scripts.bench.dashboard", *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["dashboard"].keys() >= KEYS
    assert {"/", "/trends", "/alerts", "bench: /edit/recipes"} <= {
        p["page"] for p in found["pages"]
    }
