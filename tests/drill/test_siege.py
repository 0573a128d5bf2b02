"""A short siege: a tenant and a hostile site beside built-in jobs; `scripts/siege` is longer."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SECONDS = 5


async def test_built_in_jobs_go_on_under_a_siege(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.siege", "--json"),
        *("--seconds", str(SECONDS), "--tenants", "1"),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # noqa: TID251 - the child's
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), 120)

    figures = json.loads(out.splitlines()[-1])
    assert figures["ticks"] >= SECONDS - 1, said.decode()
    assert figures["late_p50"] < 1  # seconds, however busy the machine is
    assert figures["built_in_runs"].get("lost", 0) == 0
    assert sum(figures["answers"].values()) > 0
    assert not [fault for fault in figures["faults"] if "ledger" in fault or "MB" in fault]
    assert {"worker's decider", "web", "worker"} <= figures["peak_mb"].keys()
