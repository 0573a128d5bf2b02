"""The stand-in sites in a separate process, each on its own port, as rate limits are per host."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx

from app.core.errors import ServersUnavailable
from app.embedded.process import Command
from scripts.drill.servers import wait_until
from scripts.drill.worker_processes import ROOT

_START_TIMEOUT = 20.0


class StandInSites:
    """A process that serves three stand-in sites with `events` each. Call `stop` when done."""

    def __init__(self, folder: Path, seed: int, events: int) -> None:
        ready, log = folder / "standin.urls", folder / "standin.log"
        options = f"--port 0 --listeners 3 --seed {seed} --events {events} --ready-file".split()
        command = [sys.executable, "-m", "scripts.standin", *options, str(ready)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                Command(command, ROOT, log).command_line(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not wait_until(ready.exists, _START_TIMEOUT):
            self.stop()
            raise ServersUnavailable(f"the stand-in sites did not start; see {log}")
        self.urls = ready.read_text().split()

    def settings(self) -> dict[str, str]:
        """Return the worker settings that name the sites' base URLs."""
        sportybet, betpawa, bet9ja = self.urls
        return {
            "SPORTYBET_URL": f"{sportybet}/sportybet/factsCenter",
            "BETPAWA_URL": f"{betpawa}/betpawa",
            "BET9JA_URL": f"{bet9ja}/bet9ja/PalimpsestAjax",
        }

    def advance(self, share: float) -> None:
        """Change the prices of this share of the matches."""
        url = f"{self.urls[0]}/control/advance"
        httpx.post(url, json={"ticks": 1, "share": share}, trust_env=False).raise_for_status()

    def stop(self) -> None:
        """Kill the process."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
