"""A forked process of ours is as one that is started from nothing."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forked import processes

PROBE = "tests.forked.probe"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Starts the probe forked and not; gives both ends."""

    def started(*options: str, end: str, **settings: Any) -> list[Any]:
        settings = {
            "cwd": tmp_path,
            "env": {"PYTHONPATH": str(processes.ROOT), "X": "é"},
        } | settings
        ends: list[Any] = []
        for imported in ({}, {PROBE: ("json",)}):
            monkeypatch.setattr(processes, "IMPORTED", imported)
            command = [sys.executable, *options, "-m", PROBE, end, "a b"]
            with processes.forked():
                ends.append(
                    subprocess.run(  # noqa: S603 - ourselves
                        command,
                        input="words",
                        capture_output=True,
                        text=True,
                        check=False,
                        **settings,
                    )
                )
        return ends

    return started


@pytest.mark.parametrize("end", ["0", "3", "killed", "raises"])
def test_what_it_is_given_says_and_ends_with_is_the_same(both: Any, end: str) -> None:
    real, forked = both(end=end)

    assert forked.returncode == real.returncode
    assert forked.stdout == real.stdout
    assert json.loads(forked.stdout or "{}").get("parent", os.getpid()) == os.getpid()
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("-W", "default"), {}),
        (("-s",), {"start_new_session": True}),
        ((), {"cwd": "/", "env": {"PYTHONPATH": str(processes.ROOT), "PYTHONWARNINGS": "default"}}),
        ((), {"cwd": processes.ROOT, "env": None}),
    ],
)
def test_options_and_settings_are_heeded(both: Any, options: Any, settings: Any) -> None:
    real, forked = both(*options, end="0", **settings)

    assert forked.stdout == real.stdout
    assert forked.stderr == real.stderr


async def test_a_loop_hears_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IMPORTED", {PROBE: ("json",)})
    with processes.forked():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROBE, "7"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()

    assert process.returncode == 7
    assert json.loads(said)["parent"] == os.getpid()
