"""Child processes of a script, each with a log, ended when the script ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.embedded import launch
from app.embedded.process import rotate_log

TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Child:
    """A running process and its log."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def exited(self) -> str:
        """Wait until the process exits; returns its status and the end of its log as text."""
        code = await self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"The {self.name} {how}. The end of {self.log}:\n{last_lines(self.log)}"

    async def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL to what is left of its group after `grace` seconds."""
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.process.wait()
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass(frozen=True, slots=True)
class ChildEnvironment:
    """The environment of child processes: variables, working folder, log folder, stop timeout."""

    env: Mapping[str, str]
    folder: Path
    logs: Path
    stop_timeout: float


@asynccontextmanager
async def child(
    name: str, module: Sequence[str], environment: ChildEnvironment
) -> AsyncGenerator[Child]:
    """Run `python -m …` while the block lasts. Ctrl-C in the terminal does not reach it."""
    log = environment.logs / f"{name}.log"
    rotate_log(log)
    # On Linux the launcher kills the process if this script is killed.
    launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "-", "-")
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *launcher,
            sys.executable,
            "-m",
            *module,
            cwd=environment.folder,
            env=dict(environment.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    started = Child(name, process, log)
    try:
        yield started
    finally:
        await started.stop(environment.stop_timeout)


def last_lines(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else []
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"
