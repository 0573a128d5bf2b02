"""Prints what the process was given, and ends in the way that its argument names."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

if __name__ == "__main__":
    facts = {
        "words": sys.argv[1:],
        "name": Path(sys.argv[0]).name,
        "cwd": str(Path.cwd()),
        "path": sys.path[:2],
        "environment": {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "X")},  # noqa: TID251
        "parent": os.getppid(),
        "leads": os.getsid(0) == os.getpid(),
        "stdin": sys.stdin.read(),
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:3],  # noqa: PTH208
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    warnings.warn("old", DeprecationWarning, stacklevel=2)
    end = sys.argv[1]
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "raises":
        raise LookupError(end)
    sys.exit(int(end))
