"""Line numbers of keys in TOML text, which tomllib does not report."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

Path = tuple[str | int, ...]

MAX_LINE_LENGTH = 400  # characters of a line that are searched for keys

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_PAIR = re.compile(
    r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_INLINE = re.compile(r"""[{,]\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the 1-based line of the key at `path`, or of its nearest enclosing table, else 1."""
    wanted = tuple(path)
    best, line = 0, 1
    for number, found in _key_lines(text):
        shared = len(found) if wanted[: len(found)] == found else 0
        if shared > best:
            best, line = shared, number
    return line


@lru_cache(maxsize=4)  # the text is scanned once for all of its faults
def _key_lines(text: str) -> tuple[tuple[int, Path], ...]:
    return tuple(_keys(text))


def _keys(text: str) -> Iterator[tuple[int, Path]]:
    table: Path = ()
    counts: dict[Path, int] = {}
    quote = ""
    last: Path = ()
    for number, full_line in enumerate(text.splitlines(), 1):
        line = full_line[:MAX_LINE_LENGTH]
        if quote:
            quote = "" if quote in line else quote
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
        quote = next((f for f in ('"""', "'''") if line.count(f) % 2), "")


def _parts(text: str) -> Path:
    return tuple(double or single or bare for double, single, bare in _PART.findall(text))
