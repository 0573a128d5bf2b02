"""Virtual environments of the compared libraries, separate from ours, cached in a folder."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".rollcall" / "bench"


def environment(name: str, *requirements: str, cache: Path = CACHE) -> Path:
    """Create the environment of that name in `cache` unless it exists; returns its Python.

    Raises subprocess.CalledProcessError when a requirement cannot be installed.
    """
    folder = cache / name
    python = folder / "bin" / "python"
    complete = folder / "complete"
    wanted = "\n".join(requirements)
    if complete.exists() and complete.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(sys.executable, "-m", "venv", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", *requirements)
    complete.write_text(wanted)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 - our own commands
