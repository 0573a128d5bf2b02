"""Each feed of the corpus is read as the file beside it says.

`NAME.expected.json` has what must be read: `entries`, each with the fields that matter to the case;
`kind`, `title`; `malformed`, `fault` and `refused` as part of a message; `rejected`, parts of the
reasons in order; `made_ids`, how many ids are made from the content; `headers` of the response.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import Failure
from app.sources.feeds.reading import read

FOLDER = Path(__file__).parent / "corpus"
CASES = sorted(FOLDER.glob("*.expected.json"))
AT = "https://harbour.example/feed"


def shown(value: Any) -> Any:
    """A value as the expectation writes it."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def test_the_corpus_is_whole() -> None:
    bodies = {path.name for path in FOLDER.iterdir()} - {path.name for path in CASES}

    assert len(bodies) == len(CASES) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".expected.json"))
def test_a_feed_of_the_corpus_is_read_as_it_must_be(case: Path) -> None:
    expected = json.loads(case.read_text("utf-8"))
    stem = case.name.removesuffix(".expected.json")
    body = next(p for p in FOLDER.glob(f"{stem}.*") if p != case).read_bytes()

    if "refused" in expected:
        with pytest.raises(Failure, match=expected["refused"]):
            read(body, expected.get("headers", {}), AT)
        return
    feed = read(body, expected.get("headers", {}), AT)

    found = [
        {name: shown(entry[name]) for name in wanted}
        for entry, wanted in zip(feed.entries, expected["entries"], strict=True)
    ]
    assert found == expected["entries"]
    assert feed.kind == expected.get("kind", feed.kind)
    assert feed.title == expected.get("title", feed.title)
    assert expected.get("malformed", "") in (feed.malformed or "")
    reasons = expected.get("rejected", [])
    assert all(
        part in rejected.reason for part, rejected in zip(reasons, feed.rejected, strict=True)
    )
    faults = [fault for entry in feed.entries for fault in entry["faults"]]
    if "fault" in expected:
        assert any(expected["fault"] in fault for fault in faults), faults
    made = {entry["id"] for entry in feed.entries if entry["id"].startswith("sha256:")}
    assert len(made) == expected.get("made_ids", 0)
