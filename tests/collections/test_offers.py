"""What a preset may hold: every fault is named with its field."""

from typing import Any

import pytest

from app.core.records import Item
from app.core.setting_types import PLATFORMS
from workers import item_storage, odds, source_catalogue

ALL = (*PLATFORMS, "asknews_news", "asknews_stories")


FAULTS: list[tuple[list[dict[str, Any]], str, str]] = [
    ([], "sources", "at least one"),
    ([{}], "sources.0.source", "unknown source None"),
    ([{"source": 7}], "sources.0.source", "unknown source 7"),
    ([{"source": ["bet9ja"]}], "sources.0.source", "known: sportybet, betpawa"),
    ([{"source": "bet9ja"}, {"source": "bet9ja"}], "sources.1.source", "chosen twice"),
    (
        [{"source": "bet9ja", "parms": {}}],
        "sources.0.parms",
        "unknown field; known: source, params",
    ),
    ([{"source": "bet9ja", "params": {"x": 1}}], "sources.0.params.x", "not known"),
    ([{"source": "bet9ja", "params": 3}], "sources.0.params", "dictionary"),
    ([{"source": "bet9ja", "params": []}], "sources.0.params", "dictionary"),
    (
        [{"source": "asknews_news", "params": {"entities": []}}],
        "sources.0.params.entities",
        "at least one",
    ),
    (
        [{"source": "asknews_news", "params": {"entities": ["x"] * 51}}],
        "sources.0.params.entities",
        "at most 50",
    ),
    (
        [{"source": "asknews_stories", "params": {"entities": ["x" * 201]}}],
        "sources.0.params.entities",
        "200 characters",
    ),
]


def test_every_built_in_source_can_be_chosen_without_parameters() -> None:
    assert tuple(source_catalogue.SOURCES) == ALL
    assert source_catalogue.check_selection([{"source": name} for name in ALL]) == []
    assert source_catalogue.check_selection([{"source": name, "params": {}} for name in ALL]) == []


@pytest.mark.parametrize(("sources", "field", "fault"), FAULTS)
def test_a_fault_is_named_with_its_field(
    sources: list[dict[str, Any]], field: str, fault: str
) -> None:
    faults = source_catalogue.check_selection(sources)

    assert [where for where, _ in faults] == [field]
    assert fault in faults[0][1]


def test_sources_beyond_the_built_in_can_be_offered() -> None:
    more = {**source_catalogue.SOURCES, "recipe:shop": source_catalogue.SOURCES["bet9ja"]}

    assert source_catalogue.check_selection([{"source": "recipe:shop"}]) != []
    assert source_catalogue.check_selection([{"source": "recipe:shop"}], more) == []


def test_an_item_is_kept_as_its_source_made_it() -> None:
    made = Item("shop", "a", {"x": 1})

    assert item_storage.to_item(odds.GROUP, "shop", made) is made
