"""The stand-in as a process: it says where it listens, and stops when told to."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx


def test_it_tells_its_url_and_ends_well_on_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "url"
    command = [sys.executable, "-m", "scripts.standin", "--port", "0", "--events", "20"]

    with subprocess.Popen(  # noqa: S603  # our own command
        [*command, "--ready-file", str(ready)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        url = ready.read_text().strip()
        health = httpx.get(f"{url}/control/healthz", trust_env=False).json()
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)

    assert said == f"standin listening on {url}\n"
    assert health["events"] == {"sportybet": 20, "betpawa": 20, "bet9ja": 20}
    assert code == 0
