"""The command `rollcall` as a shell starts it: found, completed and interrupted."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.version import VERSION
from tests.wait import until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "rollcall"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The script in a project directory whose path has a blank, as scripts/setup installs it."""
    project = tmp_path / "a project"
    (project / ".venv" / "bin").mkdir(parents=True)
    for package in ("app", "workers", "pyproject.toml"):
        (project / package).symlink_to(ROOT / package)
    python = project / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    installed = project / ".venv" / "bin" / "rollcall"
    shutil.copy(SCRIPT, installed)
    return installed


def run(command: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **more}  # noqa: TID251 - the child's
    return subprocess.run(  # noqa: S603 - ourselves
        [command, *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_runs_from_a_link_in_any_directory(command: Path, tmp_path: Path) -> None:
    link = tmp_path / "rollcall"
    link.symlink_to(command)

    done = run(link, "--help")

    assert done.returncode == 0, done.stderr
    assert "Usage: rollcall" in done.stdout


def test_it_prints_its_version(command: Path) -> None:
    done = run(command, "--version")

    assert (done.returncode, done.stdout) == (0, f"rollcall {VERSION}\n")


def test_completion_is_of_rollcall_and_never_of_python(command: Path) -> None:
    words = {"COMP_WORDS": "rollcall tic", "COMP_CWORD": "1"}
    completed = run(command, _ROLLCALL_COMPLETE="complete_bash", **words)
    as_module = subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={"_ROLLCALL_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert completed.stdout.split() == ["ticks"]
    assert "complete -o default -F _rollcall_completion rollcall" in as_module.stdout
    assert "python" not in as_module.stdout


def importing(process: Path) -> bool:
    return "pydantic_core" in (process / "maps").read_text()


def connecting(process: Path) -> bool:
    return any(link.readlink().name.startswith("socket:") for link in (process / "fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("moment", [importing, connecting])
async def test_an_interrupt_is_silent_and_130(
    command: Path, moment: Callable[[Path], bool]
) -> None:
    # It never answers, so the command is at work until it is interrupted.
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(command, "jobs"),
        env={
            "PATH": os.environ["PATH"],  # noqa: TID251 - the child's
            "DATABASE_URL": f"postgres://u@127.0.0.1:{port}/x",
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    async def reached() -> bool:
        try:
            return moment(Path(f"/proc/{process.pid}"))
        except OSError:  # a descriptor that was closed meanwhile
            return False

    await until(reached, 60, "the command")
    process.send_signal(signal.SIGINT)
    said = await asyncio.wait_for(process.communicate(), 30)
    server.close()

    assert (process.returncode, *said) == (130, b"", b"")


def test_an_interrupt_while_a_command_is_imported_is_silent_too(
    command: Path, tmp_path: Path
) -> None:
    # A module that is executed at its first attribute: the import statement that reads it clears
    # what is raised there.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def interrupt(event, args):\n"
        "    if event == 'exec' and 'authoring/trial.py' in getattr(args[0], 'co_filename', ''):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(interrupt)\n"
    )

    ended = subprocess.run(  # noqa: S603 - ourselves
        [command, "source", "lint", str(ROOT / "sources.example" / "books.toml")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},  # noqa: TID251 - the child's
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_an_interrupt_while_python_finds_its_packages_is_silent_too(
    command: Path, tmp_path: Path
) -> None:
    interrupts = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "sitecustomize.py").write_text(interrupts)

    ended = subprocess.run(  # noqa: S603 - ourselves
        [command, "--help"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},  # noqa: TID251 - the child's
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_an_interrupt_after_a_command_is_done_does_not_change_its_exit_code(
    command: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    )

    done, refused = (
        subprocess.run(  # noqa: S603 - ourselves
            [command, *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},  # noqa: TID251 - the child's
            capture_output=True,
            timeout=60,
            check=False,
        )
        for arguments in (["--version"], ["source", "lint", str(tmp_path / "none.toml")])
    )

    assert (done.returncode, bool(done.stdout), done.stderr) == (0, True, b"")
    assert (refused.returncode, b"does not exist" in refused.stderr) == (2, True)
