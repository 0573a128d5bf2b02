"""The commands: POSIX sh, executable, and at home wherever they are called from."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ["setup", "check", "fix", "test", "demo", "dev", "lock", "recount"]


@pytest.mark.parametrize("name", [*(f"scripts/{name}" for name in COMMANDS), ".ci/run"])
def test_a_command_is_an_executable_and_valid_shell_script(name: str) -> None:
    command = ROOT / name
    read = subprocess.run(  # noqa: S603 - our own script
        ["/bin/sh", "-n", str(command)], capture_output=True, text=True, check=False
    )

    assert command.stat().st_mode & 0o111 == 0o111
    assert command.read_text().startswith("#!/bin/sh\n")
    assert read.returncode == 0, read.stderr


def test_setup_says_what_it_needs_where_there_is_no_python(tmp_path: Path) -> None:
    copy = tmp_path / "a house" / "scripts" / "setup"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((ROOT / "scripts" / "setup").read_bytes())
    (copy.parents[1] / "requirements-dev.txt").write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "cmp"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")

    done = subprocess.run(  # noqa: S603 - our own script
        ["/bin/sh", str(copy)],
        cwd="/",
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (copy.parents[1] / ".venv").exists()
