#!/usr/bin/env python3
"""Ask for a run by hand: `.venv/bin/python scripts/enqueue.py --help`"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Go on under the house's own Python if this one lacks its packages; returns the exit code."""
    if any(importlib.util.find_spec(name) is None for name in ("arq", "sqlmodel", "structlog")):
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == ROOT / ".venv":
            sys.stderr.write("The packages are not installed here: run scripts/setup first.\n")
            return 2
        os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - no shell wanted
    os.chdir(ROOT)  # .env and a relative DATA_DIR mean the same from everywhere
    sys.path.insert(0, str(ROOT))
    from scripts import by_hand  # noqa: PLC0415 - only now can it be imported

    return by_hand.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
