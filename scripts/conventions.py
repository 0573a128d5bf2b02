"""Checks names in app and workers: class names are unique, and nothing is called tell or told.

Prints each violation and exits with 1 if there is one.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNCLEAR = re.compile(r"(^|_)(tell|tells|told|telling)(_|$)", re.IGNORECASE)
COLUMNS = {"told_at"}  # database columns keep their names


def repeated_classes(files: Iterable[Path]) -> Iterator[str]:
    """Yield one line for each name that two public top-level classes have."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(file)
    for name, places in sorted(found.items()):
        if len(places) > 1:
            yield f"class {name} is defined in {', '.join(map(str, places))}: rename all but one"


def unclear_names(files: Iterable[Path]) -> Iterator[str]:
    """Yield one line for each definition called tell or told."""
    for file in files:
        tree = ast.parse(file.read_text("utf-8"))
        files_methods = set(_file_methods(tree))
        for node in ast.walk(tree):
            name = None if node in files_methods else _defined(node)
            if name is not None and UNCLEAR.search(name) and name not in COLUMNS:
                line = getattr(node, "lineno", 0)
                yield f"{file}:{line}: {name}: name what it does (enqueue, publish, notify, log)"


def _file_methods(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the methods of classes that are files, whose names Python has chosen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            yield from node.body if any(base.endswith("IOBase") for base in bases) else ()


def _defined(node: ast.AST) -> str | None:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
            return name
        case _:
            return None


def main() -> int:
    files = [file for root in ("app", "workers") for file in sorted((ROOT / root).rglob("*.py"))]
    found = [*repeated_classes(files), *unclear_names(files)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
