"""What `job new` writes works as it stands, and overwrites nothing."""

import ast
import resource
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from arq.connections import ArqRedis

from app.cli.job_files import JobKind, new
from app.core.errors import FileUnusable
from app.jobs.testing import PretendWeb, lab
from app.store.servers import ServerUrls
from workers import discovery


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for jobs, whose modules are forgotten afterwards."""
    yield tmp_path / "new_jobs"
    for name in [name for name in sys.modules if name.startswith("new_jobs")]:
        del sys.modules[name]


@pytest.fixture
def places(dsn: str, redis_url: str, redis: ArqRedis) -> ServerUrls:
    """The test's own servers."""
    del redis  # emptied
    return ServerUrls(dsn, redis_url)


async def test_a_new_source_reads_its_saved_page_and_a_new_job_its_site(
    folder: Path, places: ServerUrls
) -> None:
    new("books", kind=JobKind.SOURCE, folder=folder)
    new("prices", folder=folder)
    books = discovery.import_file(folder / "books.py")
    prices = discovery.import_file(folder / "prices.py")
    web = PretendWeb()
    saved = (folder / "books.page.json").read_bytes()
    for url in (books.URL, prices.URL):
        web.page(url, saved, headers={"content-type": "application/json"})

    async with lab(books.Books, web=web, servers=places) as opened:
        read = await opened.run()
    async with lab(prices.prices, web=web, servers=places) as opened:
        polled = await opened.run(page=2)
        items = [await opened.items(name) for name in ("books", "prices")]

    assert (read.status, read.stats["records"]) == ("success", 2)
    assert (polled.status, polled.stats["stored"]) == ("success", 2)
    assert [sorted(each) for each in items] == [["1", "2"], ["1", "2"]]
    assert web.requests[-1] == f"{prices.URL}?page=2"
    compile((folder / "test_books.py").read_text(), "test_books.py", "exec")
    compile((folder / "test_prices.py").read_text(), "test_prices.py", "exec")


def test_nothing_is_overwritten_and_a_name_must_be_one(folder: Path) -> None:
    new("prices", folder=folder)

    with pytest.raises(typer.BadParameter, match=r"prices\.py exists already"):
        new("prices", folder=folder)
    with pytest.raises(typer.BadParameter, match="a letter first"):
        new("9lives", folder=folder)


def test_a_full_disk_leaves_no_file_and_is_told_with_the_name_of_one(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(FileUnusable, match=r"test_prices\.py cannot be used: File too large"):
            new("prices", folder=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("class", JobKind.JOB, "'class' is a word of Python"),
        ("none", JobKind.SOURCE, "'none' is a word of Python"),
        ("job", JobKind.JOB, "the file imports job"),
        ("item", JobKind.SOURCE, "the file imports Item"),
    ],
)
def test_a_name_that_would_break_the_file_is_refused(
    folder: Path, name: str, kind: JobKind, message: str
) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        new(name, kind=kind, folder=folder)

    assert not folder.exists()


@pytest.mark.parametrize("name", ["items", "first", "opened", "check", "asyncio", "lab", "pretend"])
def test_a_test_does_not_hide_its_job_behind_a_name_of_its_own(folder: Path, name: str) -> None:
    new(name, folder=folder)

    tree = ast.parse((folder / f"test_{name}.py").read_text())

    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert sorted(imported) == sorted({*imported} - stored - defined)


def test_a_folder_must_be_one_that_python_can_import_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "prices.py").touch()

    for named in ("my_package.jobs", "jobs/prices.py", "my-jobs", ","):
        monkeypatch.setenv("JOBS", named)
        with pytest.raises(typer.BadParameter) as refused:
            new("books")
        assert refused.value.param_hint == "--folder"

    assert [path.name for path in tmp_path.rglob("*")] == ["jobs", "prices.py"]


def test_a_folder_that_no_worker_reads_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBS", raising=False)

    new("prices")
    read = capsys.readouterr()
    new("books", folder=Path("others"))
    unread = capsys.readouterr()
    new("books", folder=Path("below/others"))
    below = capsys.readouterr()

    assert read.out == "jobs/prices.py\njobs/test_prices.py\n"
    assert read.err.endswith("the workers read it when they start.\n")
    assert unread.err.endswith("the workers read it when they start once JOBS names others.\n")
    python = shlex.quote(sys.executable)
    command = f"PYTHONPATH={tmp_path}/below {python} -m pytest below/others/test_books.py"
    assert f"`{command}`" in below.err  # the shell may know another Python, or none
