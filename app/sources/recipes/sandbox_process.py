"""Entry point of the sandbox process: reads requests from stdin, writes results to stdout."""

import contextlib
import ctypes
import math
import os
import resource
import sys
from typing import BinaryIO

from app.core import frames
from app.sources.recipes import (  # not within the CPU time of a page
    feedpages,  # noqa: F401  # pyright: ignore[reportUnusedImport]
    htmlpages,  # noqa: F401  # pyright: ignore[reportUnusedImport]
)
from app.sources.recipes.reading import RecipeReader
from app.sources.recipes.sandbox import LARGE_REQUEST_BYTES
from app.sources.recipes.source import handle_sandbox_request

PRIORITY = 5  # lower than that of the processes that decide and answer
MAX_OPEN_FILES = 16  # codecs and time zone files are opened on first use
MAX_MEMORY_BYTES = 256 * 1024 * 1024  # bytes of address space for a large request
SMALL_MEMORY_BYTES = 160 * 1024 * 1024  # and for others, of which two are handled at once


def serve(ins: BinaryIO, outs: BinaryIO, cpu: float) -> None:
    """Serve length-prefixed requests from `ins` until end of file; write each result to `outs`.

    `cpu`: seconds of CPU time for one page. An empty request is a readiness check and gets an
    empty result.
    """
    pages: dict[bytes, RecipeReader] = {}
    while (request := frames.read(ins)) is not None:
        _limit_cpu(cpu)
        is_large = len(request) > LARGE_REQUEST_BYTES
        _limit_memory(MAX_MEMORY_BYTES if is_large else SMALL_MEMORY_BYTES)
        result = handle_sandbox_request(request, pages) if request else b""
        frames.write(outs, result)
        outs.flush()
        del request, result
        if is_large:
            _return_memory()


def apply_limits() -> None:
    """Apply resource limits: address space, no core dumps, no file writes, few open files."""
    limits = {
        resource.RLIMIT_AS: MAX_MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
    }
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS does not support RLIMIT_AS
            resource.setrlimit(limit, (value, value))


def _limit_memory(limit: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # as above
        resource.setrlimit(resource.RLIMIT_AS, (limit, MAX_MEMORY_BYTES))


def _return_memory() -> None:
    """Give freed memory back to the system, which glibc keeps otherwise."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _limit_cpu(cpu: float) -> None:
    """Set RLIMIT_CPU to `cpu` seconds from now.

    The kernel kills the process; Python cannot interrupt a regular expression that runs in C.
    """
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(spent.ru_utime + spent.ru_stime + cpu)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    os.nice(PRIORITY)
    apply_limits()
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
