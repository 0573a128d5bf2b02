"""The demo as a newcomer runs it: one round of everything, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app import embedded

ROOT = Path(__file__).parents[2]
PLATFORMS = {"sportybet", "betpawa", "bet9ja"}

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo"
    # A demo that failed must not leave its servers to the tests after it.
    for pid in _processes_of(tmp_path / "demo"):
        os.kill(pid, signal.SIGKILL)


def _start(data_dir: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, str(ROOT / "scripts" / "demo.py"), *words],
        cwd=data_dir.parent,
        env={**os.environ, "DATA_DIR": str(data_dir)},  # noqa: TID251 - handed on to the child
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _processes_of(data_dir: Path) -> list[int]:
    listing = subprocess.run(
        ["ps", "-Aww", "-o", "pid=,command="],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split(maxsplit=1) for line in listing.stdout.splitlines()]
    named = {int(pid) for pid, *words in found if str(data_dir) in "".join(words)}
    return sorted((named | _with_environment(data_dir)) - {os.getpid()})


def _with_environment(data_dir: Path) -> set[int]:
    """Worker and web are told by their environment, where the system shows it."""
    found: set[int] = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DATA_DIR={data_dir}".encode() in environ.read_bytes():
                found.add(int(environ.parent.name))
        except OSError:  # gone meanwhile, or somebody else's
            continue
    return found


def _wait_for_log(log: Path, words: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < deadline, f"{log} does not say {words!r}"
        time.sleep(0.1)


async def _stored(data_dir: Path) -> dict[str, int]:
    servers = embedded.start(data_dir)
    try:
        connection = await asyncpg.connect(servers.database_url)
        try:
            rows = await connection.fetch("SELECT platform, count(*) FROM odds_events GROUP BY 1")
        finally:
            await connection.close()
    finally:
        servers.close()
    return {row[0]: row[1] for row in rows}


async def test_one_round_of_the_demo_does_every_job_and_leaves_no_process(
    data_dir: Path,
) -> None:
    with _start(data_dir, "--once", "--json") as demo:
        said, complained = demo.communicate()
    left = _processes_of(data_dir)
    run, *polls = json.loads(said.splitlines()[-1])["runs"]
    stored = await _stored(data_dir)

    assert demo.returncode == 0, complained
    assert left == []
    assert run["job"] == "scrape_all_platforms"
    assert run["status"] == "success"
    assert run["events"] >= 1_500
    assert run["prices"] > run["events"]
    assert stored.keys() == PLATFORMS
    assert sum(stored.values()) == run["events"]
    assert [poll["job"] for poll in polls] == ["poll_news", "poll_stories"]
    assert [poll["status"] for poll in polls] == ["success", "success"]
    assert [poll["stats"]["entities_processed"] for poll in polls] == [3, 3]
    assert all(poll["records"] >= poll["new"] > 0 for poll in polls)


def test_a_demo_that_is_told_to_stop_leaves_no_process(data_dir: Path) -> None:
    with _start(data_dir) as demo:
        _wait_for_log(data_dir / "log" / "worker.log", "worker.started", 30)
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    left = _processes_of(data_dir)

    assert demo.returncode == 0
    assert left == []
    assert "worker.stopped" in (data_dir / "log" / "worker.log").read_text()


def test_a_demo_whose_worker_dies_says_so_and_ends(data_dir: Path) -> None:
    with _start(data_dir) as demo:
        _wait_for_log(data_dir / "log" / "worker.log", "worker.started", 30)
        for pid in _with_environment(data_dir):
            if b"app.workers.Settings" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        _, complained = demo.communicate()
    left = _processes_of(data_dir)

    assert demo.returncode == 1
    assert "The worker was killed by SIGKILL" in complained
    assert "worker.started" in complained
    assert left == []
