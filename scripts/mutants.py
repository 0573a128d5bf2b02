"""Mutation tests of the ledger, schedules, runs, health and their SQL: what does no test see?

Each mutant is one change of the syntax tree (a comparison, a boolean operator, a constant, a
dropped statement, an empty return) or of an SQL statement (a condition, an order, a lock), tested
in a copy of the project by those tests of its target that execute its line, the most specific
first. Which do is found by running them once without a mutant. One that takes longer than 5
minutes counts as seen. What was found and accepted is in docs/decisions/0016.

Examples:
  .venv/bin/python scripts/mutants.py --sample 60 --seed 27     # so many of each target
  .venv/bin/python scripts/mutants.py app/health/judge.py       # all mutants of one target
"""

import argparse
import ast
import copy
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "app/ledger": "tests/ledger tests/proof tests/commands/test_backfill.py",
    "app/scheduling": "tests/scheduling",
    "app/runs": "tests/runs tests/replay tests/dashboard/test_run_log.py"
    " tests/execute/test_attempts.py",
    "app/health/judge.py": "tests/health/test_judge.py",
    "app/store/schedules": "tests/store/test_due_schedules.py tests/ledger"
    " tests/dispatch/test_bulk.py tests/commands/test_backfill.py",
    "app/store/runs": "tests/runs tests/store/test_run_listing.py tests/replay"
    " tests/execute/test_deferral.py",
}
# Imported once, so that no forked process has to.
PRELOADED = (
    *("asyncpg", "httpx", "pydantic_settings", "redis.asyncio", "schemathesis", "sqlmodel"),
    "starlette.applications",
)
COPIED = ("app", "workers", "tests", "scripts", "docs", "sources.example", "pyproject.toml")
_PAIRS = ((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot))
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    one: other for pair in (*_PAIRS, (ast.In, ast.NotIn)) for one, other in (pair, pair[::-1])
}
STATEMENT = re.compile(r"\b(SELECT|UPDATE|INSERT INTO|DELETE FROM)\b")
SQL_CHANGES = {  # each place of a pattern becomes one mutant
    r"(?<=\bAND )[^()\n]+?(?= AND |\n|\))": "true",
    r"(?<=\bOR )[^()\n]+?(?= OR |\n|\))": "false",
    r"\bIS NOT NULL\b": "IS NULL",
    r"\bNOT EXISTS\b": "EXISTS",
    r"(?<= )<(?= )": "<=",
    r"(?<= )<=(?= )": "<",
    r"(?<= )>(?= )": ">=",
    r"(?<= )>=(?= )": ">",
    r" DESC\b": "",
    r"(?<=ORDER BY )([\w.]+)(?! DESC|[\w.])": r"\1 DESC",
    r"\s+FOR (NO KEY )?UPDATE( SKIP LOCKED)?": "",
    r" SKIP LOCKED": "",
    r"\s+ON CONFLICT( \(\w+\))? DO NOTHING": "",
    r"'queued', 'running'": "'queued'",
    r"\bgreatest\b": "least",
    r", \w+ = NULL": "",
}
SECONDS = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    """The number of a node in the order of ast.walk, and what changes where in an SQL statement."""

    file: Path
    node: int
    start: int = 0
    end: int = 0
    new: str | None = None

    def change(self, text: str) -> tuple[int, str, str]:
        """Return the line of the change, what becomes what, and the changed source."""
        tree = ast.parse(text)
        node: Any = next(islice(ast.walk(tree), self.node, None))
        line = getattr(node, "lineno", 0)
        if self.new is None:
            before = ast.unparse(node)
            _mutate(node)
            change = f"{before.splitlines()[0][:70]} -> {ast.unparse(node).splitlines()[0][:70]}"
        else:
            statement: str = node.value
            node.value = statement[: self.start] + self.new + statement[self.end :]
            line += statement.count("\n", 0, self.end)
            change = f"{statement[self.start : self.end].strip()} -> {self.new}"
        return line, change, ast.unparse(tree)


def mutants(file: Path, text: str) -> Iterator[Mutant]:
    """Yield every mutant of one module."""
    for number, node in enumerate(ast.walk(ast.parse(text))):
        if _mutate(copy.copy(node)):
            yield Mutant(file, number)
        statement = node.value if isinstance(node, ast.Constant) else None
        if isinstance(statement, str) and STATEMENT.search(statement):
            for pattern, new in SQL_CHANGES.items():
                for found in re.finditer(pattern, statement):
                    yield Mutant(file, number, found.start(), found.end(), found.expand(new))


def _mutate(node: ast.AST) -> bool:  # noqa: PLR0911 - one case for each kind of change
    """Change the node in place; return whether there is a change for it."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in COMPARISONS:
            node.ops = [COMPARISONS[type(op)](), *node.ops[1:]]
            return True
        case ast.BoolOp(op=ast.And()):
            node.op = ast.Or()
            return True
        case ast.BoolOp(op=ast.Or()):
            node.op = ast.And()
            return True
        case ast.Constant(value=bool(value)):
            node.value = not value
            return True
        case ast.Constant(value=int(value)):
            node.value = value + 1
            return True
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            node.value = ast.Constant(None)
            return True
        case ast.Expr(value=ast.Await() | ast.Call()):
            node.value = ast.Constant(None)
            return True
        case _:
            return False


class Copy:
    """A copy of the project, its servers, and which test executes which line of the targets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._executed: set[tuple[str, str, int]] = set()  # test, file, line
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder / name)
        get_context("fork").Process(target=_serve, args=(folder,), daemon=True).start()

    def pass_without(self, tests: tuple[str, ...]) -> bool:
        """Run the tests without a mutant, and learn which lines each executes."""
        note = self._folder / "executed"
        note.write_text("", "utf-8")
        passed = self._pass(tests, note, 12 * SECONDS)
        for entry in set(note.read_text("utf-8").splitlines()):
            test, file, line = entry.rsplit("\t", 2)
            self._executed.add((test, file, int(line)))
        return passed

    def pass_with(self, file: Path, line: int, source: str, tests: tuple[str, ...]) -> bool:
        """Run the tests that execute the changed line, or all if none is known to."""
        executed = [one for one in self._executed if one[1] == str(file)]
        lines = Counter(test for test, _, _ in executed)
        executing = {test for test, _, number in executed if number == line}
        place = self._folder / file
        original = place.read_text("utf-8")
        place.write_text(source, "utf-8")
        passed = self._pass(tuple(sorted(executing, key=lambda test: lines[test])) or tests)
        place.write_text(original, "utf-8")
        return passed

    def _pass(self, tests: tuple[str, ...], note: Path | None = None, limit: int = SECONDS) -> bool:
        process = get_context("fork").Process(target=_test, args=(self._folder, tests, note))
        process.start()
        process.join(limit)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode == 0


class _Plugin:
    """Lets pytest use the servers of all mutants, and notes which lines each test executes."""

    def __init__(self, note: Path | None) -> None:
        self._files = {
            str(Path.cwd() / file): file for target in TESTS for file in _files(target, [])
        }
        self._note = note and note.open("a", buffering=1, encoding="utf-8")
        self._test = ""
        self._seen: set[tuple[str, int]] = set()

    @pytest.fixture(scope="session")
    def worker_id(self) -> str:
        return "gw0"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._note:
            self._test = item.nodeid
            self._seen.clear()
            threading.settrace(self._trace)
            sys.settrace(self._trace)

    def _trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        file = self._files.get(frame.f_code.co_filename)
        if file is None or self._note is None:
            return None
        line = (frame.f_code.co_filename, frame.f_lineno)
        if line not in self._seen:
            self._seen.add(line)
            self._note.write(f"{self._test}\t{file}\t{frame.f_lineno}\n")
        return self._trace


def _enter(folder: Path) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)


def _serve(folder: Path) -> None:
    """Run the Postgres and Redis that the tests of every mutant use; they end with this process."""
    _enter(folder)
    kept = import_module("app.embedded").start(folder / "sessions" / "servers")
    signal.pause()
    kept.close()


def _test(folder: Path, tests: tuple[str, ...], note: Path | None) -> None:
    """Test in a process that has imported what the tests import, and nothing of the project."""
    _enter(folder)
    imported = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    options = ["-x", "-q", "-W", imported, "-p", "no:randomly", "-p", "no:cacheprovider"]
    session = f"--basetemp={folder / 'sessions' / 'gw0'}"  # the servers are found beside it
    os._exit(int(pytest.main([*options, session, *tests], plugins=[_Plugin(note)])))


def _files(target: str, asked: list[str]) -> Iterator[Path]:
    place = ROOT / target
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        relative = file.relative_to(ROOT)
        if not asked or any(str(relative).startswith(name) for name in asked):
            yield relative


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*", help="a file or package of the targets; default: all")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for name in PRELOADED:
        import_module(name)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants", ignore_cleanup_errors=True) as name:
        project = Copy(Path(name))
        for target, names in TESTS.items():
            own = tuple(names.split())
            found = [
                mutant
                for file in _files(target, asked.target)
                for mutant in mutants(file, (ROOT / file).read_text("utf-8"))
            ]
            if asked.sample is not None:
                chooser = random.Random(asked.seed)  # noqa: S311 - no secret
                found = chooser.sample(found, min(asked.sample, len(found)))
            if found and not project.pass_without(own):
                print(f"the tests of {target} fail without a mutant", file=sys.stderr)
                return 2
            before = survivors
            for mutant in found:
                line, change, source = mutant.change((ROOT / mutant.file).read_text("utf-8"))
                if project.pass_with(mutant.file, line, source, own):
                    survivors += 1
                    print(f"{mutant.file}:{line}: {change}", flush=True)
            if found:
                seen = len(found) - survivors + before
                print(f"{target}: {seen} of {len(found)} mutants were seen", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
