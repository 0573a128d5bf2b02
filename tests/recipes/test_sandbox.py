"""An expression that costs too much costs its page, and nobody else anything."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.context import WorkerContext
from app.core.errors import Expression
from app.core.messages import Partition, RawPage
from app.sources.recipes.load import load
from app.sources.recipes.reading import PageReading
from app.sources.recipes.sandbox import ROOT, Sandbox
from app.sources.recipes.source import RecipeSource
from tests import worker_harness
from tests.recipes.shop import Shop, ask, items, write
from tests.wait import until

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)

JSON = """
name = "costly"
kind = "json"
url = "https://site.test/rows"
[extract]
records = "rows"
[extract.fields]
id = "id"
text = {{ path = "text", match = '{match}' }}
[store]
key = "id"
"""

HTML = """
name = "costly"
kind = "html"
url = "https://site.test/rows"
[extract]
records = "li"
[extract.fields]
id = '{path}'
[store]
key = "id"
"""


def raw(body: object) -> RawPage:
    result = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawPage(result, 200, "https://site.test/rows", {}, NOON, Partition("all"))


def catastrophic() -> tuple[RecipeSource, RawPage]:
    source = RecipeSource(load(JSON.format(match="^(a+)+$")))
    return source, raw({"rows": [{"id": 1, "text": "a" * 60 + "!"}]})


async def read(sandbox: Sandbox, source: RecipeSource, page: RawPage) -> PageReading:
    answer = await sandbox.read("costly", source.sandbox_request(page))
    reading = source.with_sandbox_result(page, answer).parsed
    assert isinstance(reading, PageReading)
    return reading


async def test_a_catastrophic_regular_expression_ends_with_its_page_and_the_next_is_read() -> None:
    sandbox = Sandbox(1, cpu=0.5)
    source, page = catastrophic()
    good = raw({"rows": [{"id": 1, "text": "aaa"}]})
    try:
        with pytest.raises(Expression, match="exceeded the limits"):
            await read(sandbox, source, page)

        reading = await read(sandbox, source, good)
    finally:
        await sandbox.close()

    assert [row.data for row in reading.rows] == [{"id": "1", "text": "aaa"}]


@pytest.mark.parametrize(
    "path",
    [
        "(.)[count(//*[count(//*[count(//*) > 1]) > 1]) > 0]",
        '(.)[re:test(string(.), "^(a+)+$")]',
    ],
)
async def test_a_catastrophic_xpath_ends_with_its_page(path: str) -> None:
    sandbox = Sandbox(1, cpu=0.5)
    source = RecipeSource(load(HTML.format(path=path)))
    page = raw(b"<ul>" + b"".join(b"<li>%s!</li>" % (b"a" * 60) for _ in range(2_000)) + b"</ul>")
    try:
        with pytest.raises(Expression):
            await read(sandbox, source, page)
    finally:
        await sandbox.close()


async def test_a_reading_that_wants_too_much_memory_ends_with_its_page() -> None:
    tenfold = f"[{', '.join(['@'] * 10)}]"
    path = " | ".join([tenfold] * 8)
    text = JSON.format(match="a").replace('path = "text"', f'path = "{path}", type = "json"')
    sandbox = Sandbox(1, cpu=20)
    source = RecipeSource(load(text.replace(", match = 'a'", "")))
    try:
        with pytest.raises(Expression, match="memory"):
            await read(sandbox, source, raw({"rows": [{"id": 1}]}))
    finally:
        await sandbox.close()


def peak_mb(process: int) -> float:
    """The largest resident size that a process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


async def test_two_readers_of_huge_pages_fit_into_a_small_machine() -> None:
    sandbox = Sandbox(2)
    source = RecipeSource(load(HTML.format(path="a")))
    huge = raw(b"<html><body>" + b"<li>" * 2_300_000)
    peaks: dict[int, float] = {}

    async def watch() -> None:
        while True:
            for child in [*sandbox.busy, *sandbox._idle]:  # pyright: ignore[reportPrivateUsage]
                with contextlib.suppress(OSError, IndexError):
                    pid = child.process.pid
                    peaks[pid] = max(peaks.get(pid, 0), peak_mb(pid))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        ends = await asyncio.gather(
            *(sandbox.read(who, source.sandbox_request(huge)) for who in ("one", "other")),
            return_exceptions=True,
        )
        plain = b"".join(b"<li><a>%d %s</a></li>" % (n, b"word " * 90) for n in range(18_000))
        reading = await read(sandbox, source, raw(b"<html><body>" + plain))
    finally:
        watching.cancel()
        await sandbox.close()

    assert len(ends) == 2
    assert len(reading.rows) == 18_000
    assert max(peaks.values()) < 260


async def test_while_one_source_is_stuck_another_is_read() -> None:
    sandbox = Sandbox(2, cpu=60, wall=120)
    source, page = catastrophic()
    good = raw({"rows": [{"id": 1, "text": "aaa"}]})
    stuck = [asyncio.create_task(read(sandbox, source, page)) for _ in range(2)]
    try:
        await until(_working(sandbox), 30)
        answer = await asyncio.wait_for(sandbox.read("other", source.sandbox_request(good)), 60)

        assert not any(task.done() for task in stuck)
        assert answer
    finally:
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await sandbox.close()


async def test_a_cancelled_reading_leaves_no_process_behind() -> None:
    sandbox = Sandbox(1, cpu=20)
    source, page = catastrophic()
    task = asyncio.create_task(read(sandbox, source, page))
    await until(_working(sandbox), 30)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert not sandbox.busy
    await sandbox.close()


PARENT = """
import asyncio
from app.sources.recipes.sandbox import Sandbox
from tests.recipes import test_sandbox

async def parent():
    sandbox = Sandbox(1, cpu=2)
    task = asyncio.create_task(test_sandbox.read(sandbox, *test_sandbox.catastrophic()))
    while not sandbox.busy:
        await asyncio.sleep(0.01)
    for child in sandbox.busy:
        print(child.process.pid, flush=True)
    await task

asyncio.run(parent())
"""


async def test_a_reading_process_whose_worker_was_killed_ends_by_itself() -> None:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert worker.stdout is not None
    child = int(await asyncio.wait_for(worker.stdout.readline(), 40))

    worker.kill()
    await worker.wait()

    async def gone() -> bool:
        return not _alive(child)

    await until(gone, 30, "the end of the orphan")


def _alive(pid: int) -> bool:
    try:
        result = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except FileNotFoundError:
        return False
    return result.rpartition(")")[2].split()[0] != "Z"  # nobody may be there to reap it


def _working(sandbox: Sandbox) -> Callable[[], Awaitable[bool]]:
    async def working() -> bool:
        return bool(sandbox.busy)

    return working


async def test_one_partition_is_lost_to_an_expression_and_the_others_are_kept(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    text = JSON.format(match="^(a+)+$").replace("https://site.test/rows", shop.base + "/{each}")
    write(folder, "costly", text + '[request]\neach = ["good", "bad"]\n[limits]\nrate = 50\n')
    for name, value in (("good", "aaa"), ("bad", "a" * 60 + "!")):
        body = json.dumps({"rows": [{"id": name, "text": value}]}).encode()
        shop.paths[f"/{name}"] = ("200 OK", body, {})

    run_id = await ask(kitchen, "costly")

    run = await worker_harness.run_row(kitchen.pool, run_id)
    assert (run["status"], run["error_type"]) == ("partial_failure", "expression")
    assert [row["key"] for row in await items(kitchen)] == ["good"]
