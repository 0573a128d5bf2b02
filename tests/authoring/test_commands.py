"""`rollcall source …`, as an author types it, against a small web on loopback."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.fetch.hostile import Visit, serving

PROJECT = Path(__file__).parents[2]
WARES = [{"id": n, "name": f"Cup {n}", "note": None} for n in range(1, 13)]


@pytest.fixture
async def web() -> AsyncGenerator[str]:
    """Serves wares at /wares, four a page at /paged, and asks robots to stay away from /private."""
    moves = 0

    async def visited(visit: Visit) -> None:
        nonlocal moves
        page = int(visit.path.partition("page=")[2] or 1)
        match visit.path.partition("?")[0]:
            case "/robots.txt":
                await visit.answer(
                    body=b"User-agent: *\nDisallow: /private", content_type="text/plain"
                )
            case "/wares":
                await visit.answer(body=json.dumps(WARES).encode())
            case "/paged" | "/moving" if page < 4:
                moves += visit.path.startswith("/moving")
                first = (page - 1) * 4 + (moves > 1)  # a row leaves once page 1 was read
                following = f"/paged?page={page + 1}" if page < 3 else None
                body = {"rows": WARES[first : first + 4], "next": following}
                await visit.answer(body=json.dumps(body).encode())
            case "/same":
                await visit.answer(
                    body=json.dumps({"rows": WARES, "next": "/same?page=2"}).encode()
                )
            case "/private":
                await visit.answer(body=b"[]")
            case _:
                await visit.answer("404 Not Found", b"{}")

    async with serving(visited) as base:
        yield base


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"GUARD_ALLOW": "127.0.0.1", "DATA_DIR": str(tmp_path / "data"), "COLUMNS": "120"}


async def app(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "app", "source", *words],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return await asyncio.to_thread(run)


async def test_from_an_address_to_a_tried_recipe_and_what_an_edit_changes(
    environment: dict[str, str], web: str, tmp_path: Path
) -> None:
    file, kept = tmp_path / "cups.toml", tmp_path / "golden"

    made = await app(environment, "new", f"{web}/wares", "--out", str(file))
    linted = await app(environment, "lint", str(file))
    tried = await app(environment, "try", str(file), "--save", str(kept))
    same = await app(environment, "diff", str(file), "--golden", str(kept))
    file.write_text(file.read_text().replace('name = "name"', 'name = "note"'))
    edited = await app(environment, "diff", str(file), "--golden", str(kept), "--json")

    assert [one.returncode for one in (made, linted, tried, same)] == [0, 0, 0, 0], made.stderr
    assert linted.stdout == "1 recipe, no fault\n"
    assert "12 rows, 0 refused" in tried.stdout
    assert "12 of 12" in tried.stdout  # the column `note` is empty in all of them
    assert "and 2 rows more" in tried.stdout
    assert same.stdout == "0 gone, 0 new, 0 changed, 12 the same\n"
    assert edited.returncode == 1
    assert json.loads(edited.stdout)["changed"]["1"] == {"name": {"before": "Cup 1", "after": None}}


PAGED = """
name = "paged"
kind = "json"
url = "{url}"
[limits]
rate = 50
burst = 50
[paginate]
type = "page"
max_pages = 9
{end}
[extract]
records = "rows"
[extract.fields]
id = "id"
[store]
key = "id"
"""


ENDING = "end_status = [404]"
ENDS = {
    "a 404 that the recipe does not name": ("/paged", "", 1, "HTTP 404"),
    "a 404 that the recipe names": ("/paged", ENDING, 0, "the end: HTTP 404"),
    "a list that moves": ("/moving", ENDING, 1, "rows of page 1 left it"),
}


@pytest.mark.parametrize("case", ENDS)
async def test_try_ends_as_a_run_would(
    environment: dict[str, str], web: str, tmp_path: Path, case: str
) -> None:
    path, end, code, said = ENDS[case]
    file = tmp_path / "paged.toml"
    file.write_text(PAGED.format(url=web + path, end=end))

    tried = await app(environment, "try", str(file), "--pages", "9")

    assert tried.returncode == code, tried.stdout + tried.stderr
    assert said in " ".join((tried.stdout + tried.stderr).split())


async def test_the_next_page_is_tried_before_a_proposal_is_printed(
    environment: dict[str, str], web: str
) -> None:
    paged = await app(environment, "new", f"{web}/paged")
    same = await app(environment, "new", f"{web}/same")

    assert 'type = "next"\npath = "next"' in paged.stdout
    assert same.stdout.startswith("# Further pages could not be read (")
    assert "[paginate]" not in same.stdout.partition("\n")[2]


async def test_each_fault_is_named_with_its_line_its_key_and_the_mend(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('name = "bad"\nkind = "json"\nurl = "https://x.example/"\nschedul = 1\n')

    shown = await app(environment, "lint", str(file))
    result = await app(environment, "lint", str(file), "--json")

    assert shown.returncode == result.returncode == 1
    assert f"{file}:line 4: schedul: is not known here (did you mean schedule?)" in " ".join(
        shown.stdout.split()
    )
    fault = json.loads(result.stdout)[0]
    assert (fault["line"], fault["key"]) == (4, "schedul")


async def test_what_robots_txt_forbids_and_what_is_private_is_not_looked_at(
    environment: dict[str, str], web: str
) -> None:
    forbidden = await app(environment, "new", f"{web}/private")
    private = await app(environment | {"GUARD_ALLOW": ""}, "new", f"{web}/wares")

    assert (forbidden.returncode, private.returncode) == (2, 2)
    assert forbidden.stderr == "blocked: robots.txt forbids\n"
    assert "unsafe" in private.stderr
    assert "GUARD_ALLOW" in private.stderr


async def test_a_page_that_cannot_be_had_is_said_in_a_sentence(
    environment: dict[str, str], web: str, tmp_path: Path
) -> None:
    file = tmp_path / "gone.toml"
    file.write_text(
        f'name = "gone"\nkind = "json"\nurl = "{web}/gone"\n[extract.fields]\nid = "id"\n'
        '[store]\nkey = "id"\n[auth]\ntype = "bearer"\ntoken = "env:NO_SUCH_TOKEN"\n'
    )

    unset = await app(environment, "try", str(file))
    tried = await app(environment | {"NO_SUCH_TOKEN": "hush-hush"}, "try", str(file), "--json")

    assert unset.returncode == 2
    assert unset.stderr.startswith("NO_SUCH_TOKEN is not set")
    assert tried.returncode == 1
    assert json.loads(tried.stdout)[0]["failure"]["kind"] == "http_status"
    assert "hush" not in tried.stdout + tried.stderr


async def test_the_schema_is_one_that_editors_read(environment: dict[str, str]) -> None:
    printed = await app(environment, "schema")

    assert json.loads(printed.stdout)["properties"]["kind"]


async def test_a_file_that_cannot_be_written_is_named(
    environment: dict[str, str], web: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "wares.toml"
    made = await app(environment, "new", f"{web}/wares", "--out", str(recipe))

    new = await app(environment, "new", f"{web}/wares", "--out", "/nowhere/wares.toml")
    saved = await app(environment, "try", str(recipe), "--save", "/proc/nowhere")
    taken = await app(environment, "new", f"{web}/wares", "--out", str(recipe))

    assert made.returncode == 0, made.stderr
    assert (new.returncode, saved.returncode, taken.returncode) == (2, 2, 2)
    assert new.stderr.endswith("/nowhere/wares.toml cannot be used: No such file or directory\n")
    assert "/proc/nowhere cannot be used: No such file or directory" in saved.stderr
    assert "Traceback" not in new.stderr + saved.stderr
    assert "Usage" not in taken.stderr
