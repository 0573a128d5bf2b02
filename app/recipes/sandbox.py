"""Where pages are read whose expressions others wrote: processes that may be killed at any time.

No language of expressions bounds what one costs: a regular expression of ten characters can run for
a year, an XPath can multiply a page by itself. So a page is read by a process that has a bounded
address space and CPU time, none of our secrets or connections, and nothing it may write. What goes
beyond its bounds costs its page.
"""

import asyncio
import contextlib
import struct
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from app import log
from app.errors import Expression

ROOT = Path(__file__).parents[2]
CPU = 3.0  # seconds of one page
WALL = 20.0  # seconds of one page on a machine that is busy
STARTING = 60.0
ERRANDS = 2_000  # after so many pages a process is let go, with whatever it has gathered
LARGEST = 64 * 1024 * 1024  # bytes of an answer
HEAD = struct.Struct(">I")

_log = log.logger(__name__)


@dataclass(slots=True, eq=False)
class Child:
    """One reading process."""

    process: asyncio.subprocess.Process
    errands: int = 0

    async def ask(self, told: bytes) -> bytes:
        """Send an errand and wait for its answer. Raises EOFError if the process is gone."""
        ins, outs = self.process.stdin, self.process.stdout
        if ins is None or outs is None:
            raise EOFError
        self.errands += 1
        ins.write(HEAD.pack(len(told)))
        ins.write(told)
        await ins.drain()
        (size,) = HEAD.unpack(await outs.readexactly(HEAD.size))
        if size > LARGEST:
            raise EOFError
        return await outs.readexactly(size)

    async def end(self) -> None:
        """Kill it and see it gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        # The transport is closed once all its pipes are; one turn of the loop lets it notice.
        await asyncio.sleep(0)


class Sandbox:
    """A few reading processes, started when they are needed.

    `size`: how many. One source, or one organisation, has one at a time, so that none keeps the
    others from theirs.
    `cpu`, `wall`: seconds for one page.
    """

    def __init__(self, size: int = 2, *, cpu: float = CPU, wall: float = WALL) -> None:
        self._cpu = cpu
        self._wall = wall
        self._room = asyncio.Semaphore(size)
        self._idle: list[Child] = []
        self.at_work: set[Child] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, whose: str, errand: bytes) -> bytes:
        """What came of an errand of that source or organisation.

        Raises Expression if it took more than it may.
        """
        turn = self._turns[whose]
        try:
            async with turn, self._room:
                return await self._read(whose, errand)
        finally:
            if not turn.locked():
                self._turns.pop(whose, None)

    async def _read(self, whose: str, errand: bytes) -> bytes:
        child = self._idle.pop() if self._idle else await self._started()
        self.at_work.add(child)
        well = False
        try:
            async with asyncio.timeout(self._wall):
                answer = await child.ask(errand)
            well = True
            return answer
        except (TimeoutError, EOFError, ConnectionError) as error:
            _log.warning("sandbox.killed", whose=whose, error=type(error).__name__)
            raise Expression(
                f"reading the page took more than it may ({self._cpu:.0f} s of CPU, 1 GiB of"
                " memory): look for a regular expression or a selector that multiplies"
            ) from None
        finally:
            if well and child.errands < ERRANDS:
                self._idle.append(child)
            else:
                await asyncio.shield(child.end())
            self.at_work.discard(child)

    async def _started(self) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-s",
            "-m",
            "app.recipes.child",
            str(self._cpu),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},  # no secret of ours
            start_new_session=True,  # a Ctrl-C at the terminal is the worker's affair
        )
        child = Child(process)
        try:
            async with asyncio.timeout(STARTING):
                await child.ask(b"")
        except BaseException:
            await asyncio.shield(child.end())
            raise
        return child

    async def close(self) -> None:
        """End them all."""
        for child in [*self._idle, *self.at_work]:
            await child.end()
        self._idle.clear()
