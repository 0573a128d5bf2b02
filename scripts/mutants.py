"""Mutation tests of the ledger, schedules, runs, health and their SQL: what does no test see?

Each mutant is one change of the syntax tree (a comparison, a boolean operator, a constant, a
dropped statement, an empty return) or of an SQL statement (a condition, an order, a lock), tested
in a copy of the project by the tests of its package, those of its own file first. A test that
takes longer than 5 minutes has seen it.

Examples:
  .venv/bin/python scripts/mutants.py --sample 40 --seed 1      # of all targets
  .venv/bin/python scripts/mutants.py app/health/judge.py       # all mutants of one target
"""

import argparse
import ast
import copy
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "app/ledger": ("tests/ledger", "tests/proof", "tests/commands/test_backfill.py"),
    "app/scheduling": ("tests/scheduling",),
    "app/runs": ("tests/runs", "tests/replay", "tests/logs", "tests/execute/test_attempts.py"),
    "app/health/judge.py": ("tests/health/test_judge.py",),
    "app/store/schedules": (
        *("tests/store/test_due_schedules.py", "tests/ledger", "tests/dispatch/test_bulk.py"),
        "tests/commands/test_backfill.py",
    ),
    "app/store/runs": (
        *("tests/runs", "tests/store/test_run_listing.py", "tests/replay"),
        "tests/execute/test_deferral.py",
    ),
}
# Imported once, so that no forked process has to.
PRELOADED = (
    *("asyncpg", "httpx", "pydantic_settings", "redis.asyncio", "schemathesis", "sqlmodel"),
    "starlette.applications",
)
COPIED = ("app", "workers", "tests", "scripts", "docs", "sources.example", "pyproject.toml")
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
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
    """A changed source, the line of the change, and what it was changed to."""

    file: Path
    line: int
    change: str
    source: str


def mutants(file: Path, text: str) -> Iterator[Mutant]:
    """Yield every mutant of one module."""
    for number, node in enumerate(ast.walk(ast.parse(text))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _sql_mutants(file, text, number, node.value)
        if not _mutate(copy.copy(node)):
            continue
        tree = ast.parse(text)
        changed = next(islice(ast.walk(tree), number, None))
        before = ast.unparse(changed)
        _mutate(changed)
        change = f"{before.splitlines()[0][:70]} -> {ast.unparse(changed).splitlines()[0][:70]}"
        yield Mutant(file, getattr(changed, "lineno", 0), change, ast.unparse(tree))


def _sql_mutants(file: Path, text: str, number: int, statement: str) -> Iterator[Mutant]:
    """Yield the mutants of the statement that is the node of that number; none of other texts."""
    if not STATEMENT.search(statement):
        return
    for pattern, new in SQL_CHANGES.items():
        for found in re.finditer(pattern, statement):
            tree = ast.parse(text)
            changed = cast("ast.Constant", next(islice(ast.walk(tree), number, None)))
            changed.value = (
                statement[: found.start()] + found.expand(new) + statement[found.end() :]
            )
            line = changed.lineno + statement.count("\n", 0, found.end())
            change = f"{found.group().strip()} -> {found.expand(new)}"
            yield Mutant(file, line, change, ast.unparse(tree))


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


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)


def _survives(folder: Path, mutant: Mutant, tests: tuple[str, ...]) -> bool:
    place = folder / mutant.file
    original = place.read_text("utf-8")
    place.write_text(mutant.source, "utf-8")
    process = get_context("fork").Process(target=_test, args=(folder, mutant.file.stem, tests))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    place.write_text(original, "utf-8")
    return process.exitcode == 0


def _test(folder: Path, name: str, tests: tuple[str, ...]) -> None:
    """Test in a process that has imported what the tests import, and nothing of the project."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    own = [str(file) for one in tests for file in Path(one).glob(f"test_{name}*.py")]
    imported = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    options = ["-x", "-q", "-W", imported, "-p", "no:randomly", "-p", "no:cacheprovider"]
    os._exit(int(pytest.main([*options, *own, *tests])))


def _targets(asked: list[str]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for target, tests in TESTS.items():
        if asked and not any(name.startswith(target) for name in asked):
            continue
        place = ROOT / target
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            relative = file.relative_to(ROOT)
            if not asked or any(str(relative).startswith(name) for name in asked):
                yield relative, tests


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*", help="a file or package of the targets; default: all")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = [
        (mutant, tests)
        for file, tests in _targets(asked.target)
        for mutant in mutants(file, (ROOT / file).read_text("utf-8"))
    ]
    if asked.sample is not None:
        found = random.Random(asked.seed).sample(found, min(asked.sample, len(found)))  # noqa: S311 - no secret
    for name in PRELOADED:
        import_module(name)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants") as name:
        _copy(Path(name))
        for file, tests in {(mutant.file, tests) for mutant, tests in found}:
            if not _survives(Path(name), Mutant(file, 0, "", (ROOT / file).read_text()), tests):
                print(f"the tests of {file} fail without a mutant", file=sys.stderr)
                return 2
        for mutant, tests in found:
            if _survives(Path(name), mutant, tests):
                survivors += 1
                print(f"{mutant.file}:{mutant.line}: {mutant.change}", flush=True)
    print(f"{len(found) - survivors} of {len(found)} mutants were seen")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
