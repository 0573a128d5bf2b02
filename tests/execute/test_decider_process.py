"""The process that decides is started again wherever the worker is."""

import asyncio
from pathlib import Path

import pytest

from tests.wait import until
from workers.decider_process import DeciderOrder, DeciderProcess


async def test_it_is_restarted_although_a_job_has_changed_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, marks = tmp_path / "decider_of_a_test.py", tmp_path / "marks"
    package.write_text(
        "import pathlib, sys\n"
        f"pathlib.Path({str(marks)!r}).open('a').write('x')\n"
        "sys.stdin.buffer.read(1)\n"
    )
    monkeypatch.chdir(tmp_path)
    decider = DeciderProcess(package.stem)
    monkeypatch.chdir("/")

    async def is_restarted() -> bool:
        return await asyncio.to_thread(marks.exists) and len(marks.read_text()) > 1

    async with decider:
        decider.decide(DeciderOrder("", "", "w1", [], []))
        await until(is_restarted, 30)
