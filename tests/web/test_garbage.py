"""The web process does not look for garbage among its modules."""

import subprocess
import sys
from pathlib import Path

from app.web.garbage import NEW_OBJECTS

PROJECT = Path(__file__).parents[2]
PROBE = "from app.web import app; import gc; print(gc.get_freeze_count(), *gc.get_threshold())"
NOWHERE = {
    "DATABASE_URL": "postgresql://rollcall@127.0.0.1:1/rollcall",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def test_modules_are_left_out_of_collections() -> None:
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", PROBE],
        cwd=PROJECT,
        env=NOWHERE,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    frozen, new, *_ = map(int, done.stdout.split())
    assert frozen > 50_000
    assert new == NEW_OBJECTS
