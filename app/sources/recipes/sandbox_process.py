"""Entry point of the sandbox process: reads requests from stdin, writes results to stdout."""

import contextlib
import math
import resource
import sys
from typing import BinaryIO

from app.sources.recipes.reading import Pages
from app.sources.recipes.sandbox import HEAD
from app.sources.recipes.source import answered

FILES = 16  # codecs and time zone files are opened on first use
MEMORY = 1024 * 1024 * 1024  # bytes of address space


def serve(ins: BinaryIO, outs: BinaryIO, cpu: float) -> None:
    """Serve length-prefixed requests from `ins` until end of file; write each result to `outs`.

    `cpu`: seconds of CPU time for one page. An empty request is a readiness check and gets an
    empty result.
    """
    pages: dict[bytes, Pages] = {}
    while len(head := ins.read(HEAD.size)) == HEAD.size:
        (size,) = HEAD.unpack(head)
        request = ins.read(size)
        _limit_cpu(cpu)
        result = answered(request, pages) if request else b""
        outs.write(HEAD.pack(len(result)))
        outs.write(result)
        outs.flush()


def confine() -> None:
    """Apply resource limits: address space, no core dumps, no file writes, few open files."""
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: FILES,
    }
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS does not support RLIMIT_AS
            resource.setrlimit(limit, (value, value))


def _limit_cpu(cpu: float) -> None:
    """Set RLIMIT_CPU to `cpu` seconds from now.

    The kernel kills the process; Python cannot interrupt a regular expression that runs in C.
    """
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(spent.ru_utime + spent.ru_stime + cpu)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    confine()
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
