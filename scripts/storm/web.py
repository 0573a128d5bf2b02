"""The stand-in web in a process of its own: a port for each site, so that each is polite to one."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx

from app.embedded.process import Command
from app.errors import ServersUnavailable
from scripts.storm.crew import ROOT
from scripts.storm.servers import until

_READY = 20.0


class Web:
    """Three pretend sites with `events` each. To be ended."""

    def __init__(self, folder: Path, seed: int, events: int) -> None:
        ready, log = folder / "standin.urls", folder / "standin.log"
        options = f"--port 0 --listeners 3 --seed {seed} --events {events} --ready-file".split()
        words = [sys.executable, "-m", "scripts.standin", *options, str(ready)]
        with log.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                Command(words, ROOT, log).launched(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        if not until(ready.exists, _READY):
            self.end()
            raise ServersUnavailable(f"the stand-in web did not start; see {log}")
        self.urls = ready.read_text().split()

    def settings(self) -> dict[str, str]:
        """The settings that name its sites."""
        sportybet, betpawa, bet9ja = self.urls
        return {
            "SPORTYBET_URL": f"{sportybet}/sportybet/factsCenter",
            "BETPAWA_URL": f"{betpawa}/betpawa",
            "BET9JA_URL": f"{bet9ja}/bet9ja/PalimpsestAjax",
        }

    def advance(self, share: float) -> None:
        """Move the prices of this share of the matches."""
        url = f"{self.urls[0]}/control/advance"
        httpx.post(url, json={"ticks": 1, "share": share}, trust_env=False).raise_for_status()

    def end(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
