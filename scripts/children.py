"""Processes that a script starts, with a log each, and that never outlive it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.embedded import launch
from app.embedded.process import turn_over

TAIL = 15  # lines


@dataclass(frozen=True, slots=True)
class Child:
    """A running process and where its words go."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def died(self) -> str:
        """Wait until it ends, which it should not; returns what happened, with its last words."""
        code = await self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"The {self.name} {how}. The end of {self.log}:\n{last_lines(self.log)}"

    async def end(self, patience: float) -> None:
        """SIGTERM, and SIGKILL for whatever is left of its group after `patience` seconds."""
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.process.wait()
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What children are started with: environment, working folder, and the folder of their logs."""

    env: Mapping[str, str]
    folder: Path
    logs: Path
    patience: float


@asynccontextmanager
async def child(name: str, module: Sequence[str], around: Surroundings) -> AsyncGenerator[Child]:
    """Run `python -m …` while the block lasts. Ctrl-C in the terminal does not reach it."""
    log = around.logs / f"{name}.log"
    turn_over(log)
    # The launcher has the process killed should we be killed ourselves (on Linux).
    launched = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "-", "-")
    with log.open("ab") as words:
        process = await asyncio.create_subprocess_exec(
            *launched,
            sys.executable,
            "-m",
            *module,
            cwd=around.folder,
            env=dict(around.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    started = Child(name, process, log)
    try:
        yield started
    finally:
        await started.end(around.patience)


def last_lines(log: Path) -> str:
    """The end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL:] if log.exists() else []
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"
