"""Jobs are found in folders, modules and packages; a broken one does not stop the others."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import UnknownJob
from tests.configs import NO_POSTGRES, config_for
from workers import registry
from workers.registry import JobRegistry

JOB = """
from app.jobs import Run, job

@job(every=60)
async def {name}(run: Run, *, region: str = "ng") -> dict[str, int]:
    return {{"stored": len(region)}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for jobs, whose modules are forgotten afterwards."""
    folder = tmp_path / f"jobs_{tmp_path.name.replace('-', '_')}"
    folder.mkdir()
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


def load(*entries: Any) -> JobRegistry:
    settings = config_for(NO_POSTGRES, "redis://127.0.0.1:1", jobs=tuple(map(str, entries)))
    return registry.load(settings)


def own(found: JobRegistry) -> list[str]:
    return [job.name for job in found.jobs if job not in registry.BUILT_IN]


def test_every_file_of_a_folder_is_read_but_tests_and_private_ones(folder: Path) -> None:
    for name in ("prices", "report", "_private", "test_prices"):
        (folder / f"{name}.py").write_text(JOB.format(name=name.strip("_")))

    found = load(folder)

    assert own(found) == ["prices", "report"]
    assert [one.key for one in found.declared if one.key in ("prices", "report")] == [
        "prices", "report",
    ]  # fmt: skip
    assert found.faults == ()
    assert {"prices", "source", "collection"} <= {task.name for task in found.tasks()}


def test_files_of_a_folder_import_each_other_and_a_job_is_found_once(folder: Path) -> None:
    (folder / "a.py").write_text(f"from {folder.name}.b import second\n" + JOB.format(name="first"))
    (folder / "b.py").write_text(JOB.format(name="second"))

    found = load(folder)

    assert sorted(own(found)) == ["first", "second"]
    assert found.faults == ()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import nothing_of_this_name", 1, "install nothing_of_this_name, or correct the import"),
        ("\nx = 1 / 0", 2, "ZeroDivisionError"),
        ("\n\ndef (", 3, "invalid syntax"),
        ("raise SystemExit(3)", 1, "SystemExit"),
        (JOB.format(name="bad").replace(': str = "ng"', '="ng"'), 4, "write `region: str`"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_others_are_there(
    folder: Path, text: str, line: int, message: str
) -> None:
    (folder / "broken.py").write_text(text)
    (folder / "good.py").write_text(JOB.format(name="good"))

    found = load(folder)

    (fault,) = found.faults
    assert f"broken.py:{line}: " in fault
    assert message in fault
    assert own(found) == ["good"]


def test_of_two_jobs_of_one_name_the_first_stays_and_the_second_is_named(folder: Path) -> None:
    (folder / "a.py").write_text(JOB.format(name="twice"))
    (folder / "b.py").write_text(JOB.format(name="twice"))
    (folder / "c.py").write_text(JOB.format(name="poll_news"))

    found = load(folder)

    twice, built_in = found.faults
    assert own(found) == ["twice"]
    assert "b.py:4: the job 'twice' is also at" in twice
    assert "a.py:4: rename one with name=…" in twice
    assert "c.py:4: the job 'poll_news' is also built in" in built_in


def test_a_job_that_another_of_its_file_replaces_is_named(folder: Path) -> None:
    for name in ("first", "second"):
        text = JOB.format(name="poll").replace("every=60", f'name="{name}", every=60')
        with (folder / "a.py").open("a") as file:
            file.write(text)

    found = load(folder)

    assert own(found) == ["second"]
    (fault,) = found.faults
    assert "a.py:4: the job 'first' is in no variable of its file" in fault


def test_a_folder_of_jobs_may_have_the_name_of_a_package_of_ours(folder: Path) -> None:
    ours = folder / "workers"
    ours.mkdir()
    (ours / "prices.py").write_text(
        "from workers.news import poll_news\n" + JOB.format(name="prices")
    )

    found = load(ours)

    assert own(found) == ["prices"]
    assert found.faults == ()


RAISING_SOURCE = """
import os
from app.jobs import HostLimits, source

@source(every=60)
class Books:
    name = "books"
    limits = HostLimits(rate=1, burst=2, concurrency=1)

    def __init__(self) -> None:
        self.key = os.environ["NO_SUCH_KEY"]

    def partitions(self): ...
    def pages(self, part): ...
    def parse(self, raw): ...
"""


def test_a_source_that_cannot_be_made_is_a_fault_and_the_others_are_there(folder: Path) -> None:
    (folder / "books.py").write_text(RAISING_SOURCE)
    (folder / "good.py").write_text(JOB.format(name="good"))

    found = load(folder)

    (fault,) = found.faults
    assert "books.py:5: the job 'books' cannot be used" in fault
    assert "KeyError('NO_SUCH_KEY')" in fault
    assert own(found) == ["good"]
    assert [one.key for one in found.declared if one.key == "books"] == []


def test_a_module_may_be_named_and_one_that_is_not_there_is_a_fault(folder: Path) -> None:
    (folder / "prices.py").write_text(JOB.format(name="prices"))
    sys.path.append(str(folder.parent))

    found = load(f"{folder.name}.prices", "no_such_module")

    assert own(found) == ["prices"]
    assert found.faults == (
        "JOBS=no_such_module: there is neither a folder nor a module of that name; correct JOBS",
    )


def test_an_installed_package_names_its_modules(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stranger.py").write_text(JOB.format(name="of_a_package"))
    info = folder / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rollcall.jobs]\nmine = stranger\nlost = stranger_lost\n"
    )
    monkeypatch.syspath_prepend(str(folder))  # pyright: ignore[reportUnknownMemberType] - untyped

    found = load(folder.parent / "nothing-else.py")

    assert own(found) == ["of_a_package"]
    assert any("rollcall.jobs lost = stranger_lost of stranger" in one for one in found.faults)


def test_an_unknown_job_is_told_which_there_are_and_that_some_are_broken(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0")
    (folder / "good.py").write_text(JOB.format(name="good"))
    settings = config_for(NO_POSTGRES, "redis://127.0.0.1:1", jobs=(str(folder),))

    with pytest.raises(UnknownJob, match=r"known: .*good; 1 could not be loaded, see `doctor`"):
        registry.find_job(settings, "nothing")
