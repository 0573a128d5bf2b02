"""A Redis of a test's own, to be killed, frozen and started again."""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from redis.asyncio import Redis

from app.embedded.redis import binary
from tests.wait import block_until

NOT_DURABLE = ("--save", "", "--appendonly", "no")
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


class RedisProcess:
    """A server on a Unix socket in `folder`. With `durable` it keeps its data when it is killed."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self._command = [
            str(binary()),
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)),
            *(DURABLE if durable else NOT_DURABLE),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; return when it takes connections."""
        self._process = subprocess.Popen(  # noqa: S603 - our own binary
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        block_until(self._accepts, what="Redis")

    def kill(self) -> None:
        """kill -9. Fine if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    async def refuse_writes(self) -> None:
        """Answer each write from now on as if its memory were used up."""
        async with Redis(unix_socket_path=str(self.socket)) as client:
            await client.execute_command("CONFIG", "SET", "maxmemory", 1)  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here

    def freeze(self) -> None:
        """SIGSTOP: it neither answers nor goes away."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def _accepts(self) -> bool:
        # The socket exists a moment before the server listens on it.
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@contextmanager
def redis_process(*, durable: bool = False) -> Generator[RedisProcess]:
    """A running server, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        server = RedisProcess(Path(folder), durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.kill()
