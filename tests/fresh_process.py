"""Python code in a process of its own, which has imported nothing and whose servers are away."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NOWHERE = {
    "DATABASE_URL": "postgresql://rollcall@127.0.0.1:1/rollcall",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def printed_by(code: str) -> str:
    """Return what the code prints. Fails with its errors if it does not end with 0."""
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=NOWHERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
