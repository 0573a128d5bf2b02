"""Golden files of a recipe: saved pages and their expected rows, for tests without requests."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.authoring.trial import TrialPage
from app.core.errors import BadConfig, FileUnusable
from app.core.messages import Partition, RawPage

ROWS_FILE = "rows.json"
_HEADERS = ("content-type", "link", "cache-control", "content-language")


def save(folder: Path, recipe: str, seen: Iterable[TrialPage]) -> list[Path]:
    """Write the recipe, its pages as received, and its rows to `folder`; return the files.

    Pages of an earlier call are deleted. Raises FileUnusable; if a file could not be written, the
    files are as they were.
    """
    files, rows = {"recipe.toml": recipe.encode()}, dict[str, Any]()
    for number, page in enumerate((page for page in seen if page.raw is not None), 1):
        if page.raw is None:
            continue
        stem = f"{number:02}-{re.sub(r'[^A-Za-z0-9-]+', '-', page.partition)[:40]}"
        files[f"{stem}.page"] = page.raw.body
        files[f"{stem}.json"] = _json(_metadata(page.raw, page))
        rows |= {item.key: dict(item.data) for item in page.rows}
    files[ROWS_FILE] = _json(rows)
    written = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".new-", dir=folder) as new:
            for name, content in files.items():
                written = folder / name
                Path(new, name).write_bytes(content)
            for name in files:
                Path(new, name).replace(folder / name)
        for written in folder.glob("[0-9][0-9]*-*.page"):
            if written.name not in files:  # of an earlier trial with more pages
                written.unlink()
                written.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        raise FileUnusable.from_error(error, written) from None
    return [folder / name for name in files]


def load(folder: Path) -> tuple[list[RawPage], dict[str, Any]]:
    """Return the saved pages, and the expected rows by key.

    Raises BadConfig if `folder` does not hold golden files.
    """
    try:
        rows = json.loads((folder / ROWS_FILE).read_text("utf-8"))
        pages = [_raw(path) for path in sorted(folder.glob("*.page"))]
    except (OSError, ValueError, KeyError) as error:
        raise BadConfig(f"{folder}: cannot read saved pages: {error}") from None
    return pages, rows


def _metadata(raw: RawPage, page: TrialPage) -> dict[str, Any]:
    return {
        "url": raw.url,
        "status": raw.status,
        "headers": {name: raw.headers[name] for name in _HEADERS if name in raw.headers},
        "fetched_at": raw.fetched_at.isoformat(),
        "partition": page.partition,
        "page": page.page,
    }


def _raw(path: Path) -> RawPage:
    metadata = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return RawPage(
        body=path.read_bytes(),
        status=metadata["status"],
        url=metadata["url"],
        headers=metadata["headers"],
        fetched_at=datetime.fromisoformat(metadata["fetched_at"]).astimezone(UTC),
        partition=Partition(metadata["partition"]),
        page=metadata["page"],
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
