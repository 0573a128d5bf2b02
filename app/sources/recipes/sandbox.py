"""A pool of sandbox processes that read pages with untrusted expressions.

No expression language limits what an expression costs: a regular expression of ten characters can
run for a year, an XPath can multiply a page by itself. A page is therefore read in a process with
limited address space and CPU time, without secrets, connections or write access. A process that
exceeds a limit is killed, and only its page fails.
"""

import asyncio
import contextlib
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from app.core import frames, log
from app.core.errors import Expression

ROOT = Path(__file__).parents[3]
CPU_SECONDS = 3.0  # seconds of CPU time for one page
WALL_SECONDS = 20.0  # seconds for one page, long enough for a busy machine
START_TIMEOUT_SECONDS = 60.0  # seconds until a new process must be ready
MAX_REQUESTS_PER_PROCESS = 2_000  # pages after which a process is replaced, which bounds leaks
LARGE_REQUEST_BYTES = 1_000_000  # bytes of a request that is handled while no other large one is
MAX_RESULT_BYTES = 64 * 1024 * 1024  # bytes of a result

_log = log.logger(__name__)


@dataclass(slots=True, eq=False)
class SandboxProcess:
    """One sandbox process. `request_count`: requests that it was sent."""

    process: asyncio.subprocess.Process
    request_count: int = 0

    async def request(self, request: bytes) -> bytes:
        """Send a request and return its result. Raises EOFError if the process has exited."""
        ins, outs = self.process.stdin, self.process.stdout
        if ins is None or outs is None:
            raise EOFError
        self.request_count += 1
        frames.write(ins, request)
        await ins.drain()
        return await frames.read_async(outs, MAX_RESULT_BYTES)

    async def kill(self) -> None:
        """Kill the process and wait until it has exited."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        # The transport closes after its pipes, in the next iteration of the event loop.
        await asyncio.sleep(0)


class Sandbox:
    """A pool of sandbox processes, started on demand.

    `size`: maximum number of processes. A source or organisation uses at most one at a time, so
    that none can occupy the pool. One large request is handled at a time, which bounds the memory
    of all processes together.
    `cpu`, `wall`: seconds of CPU time and wall time for one page.
    """

    def __init__(
        self, size: int = 2, *, cpu: float = CPU_SECONDS, wall: float = WALL_SECONDS
    ) -> None:
        self._cpu = cpu
        self._wall = wall
        self._capacity = asyncio.Semaphore(size)
        self._large = asyncio.Lock()
        self._idle: list[SandboxProcess] = []
        self.busy: set[SandboxProcess] = set()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(self, owner: str, request: bytes) -> bytes:
        """Return the result of a request of the source or organisation `owner`.

        Raises Expression if it exceeds a limit.
        """
        lock = self._locks[owner]
        try:
            is_large = len(request) > LARGE_REQUEST_BYTES
            async with lock, self._large if is_large else contextlib.nullcontext(), self._capacity:
                return await self._read(owner, request)
        finally:
            if not lock.locked():
                self._locks.pop(owner, None)

    async def _read(self, owner: str, request: bytes) -> bytes:
        child = self._idle.pop() if self._idle else await self._started()
        self.busy.add(child)
        succeeded = False
        try:
            async with asyncio.timeout(self._wall):
                result = await child.request(request)
            succeeded = True
            return result
        except (TimeoutError, EOFError, ConnectionError) as error:
            _log.warning("sandbox.killed", owner=owner, error=type(error).__name__)
            raise Expression(
                f"reading the page exceeded the limits ({self._cpu:.0f} s of CPU, 256 MB of"
                " memory): check the regular expressions and selectors for exponential cost"
            ) from None
        finally:
            if succeeded and child.request_count < MAX_REQUESTS_PER_PROCESS:
                self._idle.append(child)
            else:
                await asyncio.shield(child.kill())
            self.busy.discard(child)

    async def _started(self) -> SandboxProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-s",
            "-m",
            "app.sources.recipes.sandbox_process",
            str(self._cpu),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},  # no secrets in the environment
            start_new_session=True,  # Ctrl-C must reach only the worker
        )
        child = SandboxProcess(process)
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await child.request(b"")
        except BaseException:
            await asyncio.shield(child.kill())
            raise
        return child

    async def close(self) -> None:
        """Kill all processes."""
        for child in [*self._idle, *self.busy]:
            await child.kill()
        self._idle.clear()
