"""Lets `python -m` of our modules be forked from a process that has imported what they need.

A process of ours takes half a second of a processor to import its modules, and the tests start
hundreds. What is forked is as real: a child with its own id, environment, folder, output and end.
Its name is that of the module (/proc/PID/comm), as its command line is the server's.
"""

import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]
PR_SET_CHILD_SUBREAPER = 36

SANDBOX = "app.sources.recipes.sandbox_process"
DRY_RUNS = "app.authoring.dry_run_process"
COMMON = (
    *("arq.cli", "uvicorn.main", "app.cli.main", "app.cli.orgs", "app.web.application"),
    *("workers.lifecycle", "workers.registry", "workers.decider", "workers.maintenance"),
    *("workers.monitor", "workers.webhooks", "workers.trigger", "workers.isolated"),
    *("app.jobs.testing.lab", "app.jobs.testing.web"),
)
# What is imported for each module; the sandbox, whose memory is bounded, has nothing else.
IMPORTED: Mapping[str, tuple[str, ...]] = {
    SANDBOX: (SANDBOX,),
    DRY_RUNS: (DRY_RUNS,),
    **dict.fromkeys(("app", "app.workers", "arq", "uvicorn"), COMMON),
    **dict.fromkeys(("workers.isolated", "app.jobs.testing.victim"), COMMON),
    "tests.alerts.watch_process": COMMON,
}
START = "_execute_child"
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
HEEDED = {"PYTHONPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class _Start:
    """A process to be started: what is asked of the server, and its three streams."""

    imported: tuple[str, ...]
    order: dict[str, Any]
    streams: tuple[int, int, int]


class _Server:
    """One process that has imported modules."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "tests.forked.server", str(theirs.fileno())],
                cwd=ROOT,
                env={"LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._door.send(json.dumps(modules).encode())

    def start(self, start: _Start) -> int:
        """The id of a new child of this process."""
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self._door, [json.dumps(start.order).encode()], start.streams)
            return int(self._door.recv(20))
        finally:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        self._door.close()
        self._process.wait()


@contextmanager
def forked() -> Generator[None]:
    """While this lasts, processes of our modules are forked. On Linux only."""
    if sys.platform != "linux":
        yield
        return
    original: Any = getattr(subprocess.Popen, START)
    signature = inspect.signature(original)
    servers: dict[tuple[str, ...], _Server] = {}
    one_at_a_time = threading.Lock()

    @wraps(original)
    def execute_child(popen: Any, *given: Any) -> None:
        call = signature.bind(popen, *given).arguments
        start = _start_of(call)
        if start is None:
            original(popen, *given)
            return
        with one_at_a_time:
            if start.imported not in servers:
                servers[start.imported] = _Server(start.imported)
            popen.pid = servers[start.imported].start(start)
        popen._child_created = True
        popen._close_pipe_fds(*(call[name] for name in PIPES))

    setattr(subprocess.Popen, START, execute_child)
    try:
        yield
    finally:
        setattr(subprocess.Popen, START, original)
        for server in servers.values():
            server.close()


def _start_of(call: Mapping[str, Any]) -> _Start | None:
    """How to fork what Popen is asked for; None if it must be started by itself."""
    unusual = call["preexec_fn"] or call["pass_fds"] or call["shell"] or call["executable"]
    if unusual or not isinstance(call["args"], list | tuple):
        return None
    program, *words = (str(word) for word in cast("Sequence[object]", call["args"]))
    options, minus_m, rest = _split(words)
    if (
        program != sys.executable
        or not minus_m
        or rest[0] not in IMPORTED
        or options not in ([], ["-s"], ["-W", "default"])
    ):
        return None
    environment = dict(os.environ if call["env"] is None else call["env"])  # noqa: TID251 - the child's
    if {name for name in environment if name.startswith("PYTHON")} - HEEDED:
        return None
    warns = environment.get("PYTHONWARNINGS")
    if warns not in (None, "default"):
        return None
    order = {
        "words": rest,
        "cwd": os.fspath(call["cwd"] or Path.cwd()),
        "environment": environment,
        "session": call["start_new_session"],
        "warns": bool(warns) or "-W" in options,
    }
    given = (call["p2cread"], call["c2pwrite"], call["errwrite"])
    streams = [fd if fd != -1 else number for number, fd in enumerate(given)]
    if any(os.isatty(fd) for fd in streams):
        return None
    return _Start(IMPORTED[rest[0]], order, (streams[0], streams[1], streams[2]))


def _split(words: list[str]) -> tuple[list[str], bool, list[str]]:
    place = words.index("-m") if "-m" in words[:3] else len(words)
    return words[:place], place + 1 < len(words), words[place + 1 :]
