"""The process that reads pages: takes errands on its input, answers on its output, and no more."""

import contextlib
import math
import resource
import sys
from typing import BinaryIO

from app.recipes.reading import Pages
from app.recipes.sandbox import HEAD
from app.recipes.source import answered

FILES = 16  # codecs and time zones are opened when a page first needs them
MEMORY = 1024 * 1024 * 1024  # bytes of address space


def serve(ins: BinaryIO, outs: BinaryIO, cpu: float) -> None:
    """Do errands until there are no more. An empty one is answered by nothing: we are there."""
    pages: dict[bytes, Pages] = {}
    while len(head := ins.read(HEAD.size)) == HEAD.size:
        (size,) = HEAD.unpack(head)
        errand = ins.read(size)
        _allow(cpu)
        answer = answered(errand, pages) if errand else b""
        outs.write(HEAD.pack(len(answer)))
        outs.write(answer)
        outs.flush()


def confine() -> None:
    """Give up what reading a page does not need: memory beyond a bound, writing, many files."""
    bounds = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: FILES,
    }
    for what, bound in bounds.items():
        with contextlib.suppress(ValueError, OSError):  # macOS knows no bound of address space
            resource.setrlimit(what, (bound, bound))


def _allow(cpu: float) -> None:
    """Let the kernel kill us after so many seconds more of CPU: nothing in Python can, in C."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(spent.ru_utime + spent.ru_stime + cpu)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    confine()
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
