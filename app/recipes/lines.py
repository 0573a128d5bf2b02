"""Where a key stands in a text of TOML: the parser gives values, and no lines."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

Path = tuple[str | int, ...]

LOOKED_AT = 400  # characters of a line; no key stands further right

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_PAIR = re.compile(
    r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_INLINE = re.compile(r"""[{,]\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of the key at `path`, or of the nearest table above it; 1 if of neither."""
    wanted = tuple(path)
    best, line = 0, 1
    for number, found in _known(text):
        shared = len(found) if wanted[: len(found)] == found else 0
        if shared > best:
            best, line = shared, number
    return line


@lru_cache(maxsize=4)  # a recipe of many faults is looked through once
def _known(text: str) -> tuple[tuple[int, Path], ...]:
    return tuple(_keys(text))


def _keys(text: str) -> Iterator[tuple[int, Path]]:
    table: Path = ()
    counts: dict[Path, int] = {}
    fence = ""
    last: Path = ()
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole[:LOOKED_AT]
        if fence:
            fence = "" if fence in line else fence
            continue
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield number, table
            last = table
            continue
        if pair := _PAIR.match(line):
            last = (*table, *_parts(pair[1]))
            yield number, last
        for inline in _INLINE.finditer(line):
            yield number, (*last, *_parts(inline[1]))
        fence = next((f for f in ('"""', "'''") if line.count(f) % 2), "")


def _parts(text: str) -> Path:
    return tuple(double or single or bare for double, single, bare in _PART.findall(text))
