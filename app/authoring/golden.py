"""Pages kept with the rows that were in them: a test for a recipe, that asks nobody."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.authoring.trial import Seen
from app.errors import BadConfig
from app.messages import Partition, Raw

ROWS = "rows.json"
_KEPT = ("content-type", "link", "cache-control", "content-language")


def save(folder: Path, recipe: str, seen: Iterable[Seen]) -> list[Path]:
    """Keep the recipe, its pages as they came, and its rows; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files, rows = [folder / "recipe.toml"], dict[str, Any]()
    files[0].write_text(recipe, "utf-8")
    for number, page in enumerate((page for page in seen if page.raw is not None), 1):
        if page.raw is None:
            continue
        stem = f"{number:02}-{re.sub(r'[^A-Za-z0-9-]+', '-', page.partition)[:40]}"
        body, about = folder / f"{stem}.page", folder / f"{stem}.json"
        body.write_bytes(page.raw.body)
        _write(about, _about(page.raw, page))
        rows |= {item.key: dict(item.data) for item in page.rows}
        files += [body, about]
    _write(folder / ROWS, rows)
    return [*files, folder / ROWS]


def load(folder: Path) -> tuple[list[Raw], dict[str, Any]]:
    """The pages and the rows that were in them, by key. Raises BadConfig for what is no golden."""
    try:
        rows = json.loads((folder / ROWS).read_text("utf-8"))
        pages = [_raw(path) for path in sorted(folder.glob("*.page"))]
    except (OSError, ValueError, KeyError) as error:
        raise BadConfig(f"{folder}: no saved pages are to be read there: {error}") from None
    return pages, rows


def _about(raw: Raw, page: Seen) -> dict[str, Any]:
    return {
        "url": raw.url,
        "status": raw.status,
        "headers": {name: raw.headers[name] for name in _KEPT if name in raw.headers},
        "fetched_at": raw.fetched_at.isoformat(),
        "partition": page.partition,
        "page": page.page,
    }


def _raw(path: Path) -> Raw:
    told = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return Raw(
        body=path.read_bytes(),
        status=told["status"],
        url=told["url"],
        headers=told["headers"],
        fetched_at=datetime.fromisoformat(told["fetched_at"]).astimezone(UTC),
        partition=Partition(told["partition"]),
        page=told["page"],
    )


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
