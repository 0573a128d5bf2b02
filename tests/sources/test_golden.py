"""Every source reads its saved pages as it did when a person last looked at the result."""

import inspect
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.sources.sites
from app.core.errors import Failure
from app.core.messages import Partition, RawPage
from app.core.records import Rejected
from app.sources.base import Source

HERE = Path(__file__).parent
NOT_SOURCES = {"odds", "asknews_limits", "asknews_records"}
MODULES = [each.name for each in pkgutil.iter_modules(app.sources.sites.__path__)]


def _built(module: str) -> Iterator[Source]:
    """The sources of a module, with a placeholder for whatever they must be given."""
    room = import_module(f"app.sources.sites.{module}")
    classes: list[tuple[str, Any]] = inspect.getmembers(room, inspect.isclass)
    for _, found in classes:
        here = found.__module__ == room.__name__
        if here and hasattr(found, "partitions") and not inspect.isabstract(found):
            needed = [
                each.name
                for each in fields(found)
                if each.default is each.default_factory is MISSING
            ]
            yield found(**dict.fromkeys(needed, "https://site.test"))


SOURCES = {
    source.name: source
    for module in MODULES
    if module not in NOT_SOURCES
    for source in _built(module)
}
PAGES = [path for path in sorted(HERE.glob("*/*.json")) if ".expected" not in path.suffixes]


def _raw(body: bytes) -> RawPage:
    then = datetime(2026, 9, 5, 12, tzinfo=UTC)
    return RawPage(body, 200, "https://site.test/page", {}, then, Partition("saved"))


def _shown(record: object) -> dict[str, Any]:
    members = {"record": type(record).__name__, **json.loads(msgspec.json.encode(record))}
    if isinstance(record, Rejected):
        members["data"] = json.loads(record.data)
    if members.get("complete"):
        del members["complete"]  # only what is not so is worth a line
    return members


def _case(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - NOT_SOURCES))
def test_a_source_has_a_saved_page(module: str) -> None:
    names = [source.name for source in _built(module)]

    saved = {path.parent.name for path in PAGES}

    assert names, f"app/sources/sites/{module}.py holds no source"
    assert set(names) <= saved


@pytest.mark.parametrize("path", PAGES, ids=_case)
def test_a_saved_page_is_read_as_expected(path: Path) -> None:
    expected = json.loads(path.with_suffix(".expected.json").read_bytes())

    records = SOURCES[path.parent.name].parse(_raw(path.read_bytes()))

    assert [_shown(record) for record in records] == expected


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _places(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict):
        for key, inner in msgspec.convert(node, dict[str, Any]).items():
            yield from _places(inner, (*path, key))
    if isinstance(node, list):
        for index, inner in enumerate(msgspec.convert(node, list[Any])):
            yield from _places(inner, (*path, index))


def _with(node: Any, path: tuple[Any, ...], value: object) -> Any:
    if not path:
        return value
    copy = node.copy()
    copy[path[0]] = _with(node[path[0]], path[1:], value)
    return copy


def _reads_or_fails(source: Source, body: bytes) -> None:
    try:
        tuple(source.parse(_raw(body)))
    except Failure:
        return


@pytest.mark.parametrize("name", sorted(SOURCES))
@settings(deadline=None)
@given(body=st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_parsing_raises_nothing_but_failure(name: str, body: bytes) -> None:
    _reads_or_fails(SOURCES[name], body)


@pytest.mark.parametrize("path", PAGES, ids=_case)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_odd_in_a_page_raises_nothing_but_failure(
    path: Path, data: st.DataObject
) -> None:
    page = json.loads(path.read_bytes())
    place = data.draw(st.sampled_from(sorted(_places(page), key=repr)))

    odd = _with(page, place, data.draw(anything))

    _reads_or_fails(SOURCES[path.parent.name], json.dumps(odd).encode())
