#!/usr/bin/env python3
"""Queue a manual run: `.venv/bin/python scripts/enqueue.py --help`"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the command, with .venv's Python if packages are missing; returns the exit code."""
    if any(importlib.util.find_spec(name) is None for name in ("arq", "sqlmodel", "structlog")):
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == ROOT / ".venv":
            sys.stderr.write("The packages are not installed here: run scripts/setup first.\n")
            return 2
        os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - no shell wanted
    os.chdir(ROOT)  # .env and a relative DATA_DIR are resolved from the root
    sys.path.insert(0, str(ROOT))
    from scripts import run_request  # noqa: PLC0415 - needs sys.path as set above

    return run_request.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
